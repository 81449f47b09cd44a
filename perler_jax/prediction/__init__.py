"""From a fitted mapping to predictions: experts, their shares on held-out landmarks, and what they make."""
