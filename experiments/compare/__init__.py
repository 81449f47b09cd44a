"""Every method under one protocol: the same held-out genes, tuned alike, timed alike."""
