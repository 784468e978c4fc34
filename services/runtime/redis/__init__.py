"""Redis as it is asked: one server, behind sentinels, or a cluster."""
