"""Zones instead of locations: intestine villus, one half of the cells the map, the other half put on it."""
