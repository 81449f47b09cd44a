"""A binary reference of 64 bins: the zebrafish embryo."""
