"""The engine: plan a step, run the net, choose tokens, share KV blocks."""
