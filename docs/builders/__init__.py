"""What the site is made of beside its pages: committed results, notebooks, pictures."""
