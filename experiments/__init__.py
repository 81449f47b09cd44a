"""Claims about the method, each a folder with its question, a command and committed results."""
