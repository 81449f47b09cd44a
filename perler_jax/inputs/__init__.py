"""Labelled data and the files that it comes from: tables, AnnData, 10x folders, archives."""
