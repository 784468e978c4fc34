"""The nets that look at pictures."""
