"""The processes that serve models, and the floor they all stand on."""
