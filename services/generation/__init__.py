"""Text generation: contract ↔ jobs, and what is asked of an engine."""
