"""What it gains to fit several sections, and several donors, together."""
