"""How much a service may have in flight, who waits, who is refused, who is asked twice."""
