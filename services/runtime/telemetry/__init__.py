"""What a process counts and tells: calls, load, access log, the metrics port."""
