"""What was good once, made hostile: bytes, files, messages. Every case follows from a seed and its number."""
