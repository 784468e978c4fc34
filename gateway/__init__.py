"""The front door: route, cache, single-flight, replicas, fan-out; every service's contract at one address."""
