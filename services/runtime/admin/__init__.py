"""What operators change of a running server: log levels."""
