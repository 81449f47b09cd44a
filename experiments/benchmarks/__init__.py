"""What the method costs: time, memory and growth, against floors, the dense formula and its own targets."""
