"""From a laptop to many devices: memory budgets, work that survives a kill, results larger than memory."""
