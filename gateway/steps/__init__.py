"""Pipelines: checked, bound, run."""
