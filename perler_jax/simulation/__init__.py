"""A synthetic embryo with known truth."""
