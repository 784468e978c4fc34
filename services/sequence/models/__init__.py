"""The nets that read sequences, and how rows become what they take."""
