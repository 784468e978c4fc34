"""Short calls that travel together, at the service's side."""
