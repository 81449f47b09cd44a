"""How far to trust a result: where a cell came from, how sure each value is, which genes to believe."""
