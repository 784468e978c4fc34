"""Tokenizers and chat templates, whole and as a stream."""
