"""The self-contained page: patterns packed small, cells per location, and the files of the page itself."""
