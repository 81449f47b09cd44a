"""Spatial and regression refinements on the fly embryo: see README.md."""
