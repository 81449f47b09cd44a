"""Genes left out, and everything that is tuned on them: weights, shares of experts."""
