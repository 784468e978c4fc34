"""The sequence service through a real server and stub, on its real models."""
