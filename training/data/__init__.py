"""Data sets with hashes, data of one's own, and how rows are cut."""
