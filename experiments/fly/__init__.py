"""The real fly embryo: see README.md."""
