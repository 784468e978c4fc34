"""vLLM behind the same contract."""
