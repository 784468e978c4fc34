"""The `maas` command: up, status, call, models, train, evaluate, keys, certs, console."""
