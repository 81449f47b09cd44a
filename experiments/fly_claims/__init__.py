"""The fly embryo, claim by claim: mapping, origins, genes, patterns and their order."""
