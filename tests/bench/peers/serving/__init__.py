"""Other model servers: one module each, run in the peer's own environment, all told the same."""
