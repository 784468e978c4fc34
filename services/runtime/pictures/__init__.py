"""How a picture's bytes become what a net takes: one way, for serving, training and evaluation alike."""
