"""Ways of making a shape from a picture."""
