"""Every way to fit the mapping, against each other, on the fly embryo."""
