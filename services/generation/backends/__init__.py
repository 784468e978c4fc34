"""What may generate: the suite's own engine, or vLLM."""
