"""How well a prediction agrees with what is known."""
