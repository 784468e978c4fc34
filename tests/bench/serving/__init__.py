"""Our services against other model servers: one job a file, one load generator for all."""
