"""The floor of every server: door, limits, errors, batches, health, models, metrics, drain."""
