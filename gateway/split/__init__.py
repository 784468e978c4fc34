"""A large batch in parts to several replicas, and back as one answer."""
