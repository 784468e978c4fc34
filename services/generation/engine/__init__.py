"""The engine: plan a step, run the net, choose tokens; KV blocks, priorities, beams, drafts, adapters."""
