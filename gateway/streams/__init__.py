"""Generations that stream: cached, shared, replayed."""
