"""The rim: command line, demo and the pictures that they write."""
