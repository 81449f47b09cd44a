"""How far results can be trusted: see README.md."""
