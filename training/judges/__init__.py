"""How each kind of model is measured, as serving runs it."""
