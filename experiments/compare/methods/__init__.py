"""Methods that need nothing but this package's own environment."""
