"""Pictures to classes, features and heat maps."""
