"""From data to a published version: one loop, checkpoints that resume bit for bit, evaluation, comparison."""
