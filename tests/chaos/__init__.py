"""Faults against the real processes under a mixed load: what callers notice of them."""
