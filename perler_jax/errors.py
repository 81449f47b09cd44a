"""What can go wrong with a user's input: every message says expected, found, what to do."""


class PerlerInputError(ValueError):
    """An input cannot be used. Nothing was computed and nothing was written."""


class PerlerFileError(PerlerInputError):
    """A file cannot be read as what it claims to be (missing, truncated, tampered with, too new)."""


class PerlerWarning(UserWarning):
    """An input can be used, but probably not with the meaning the user has in mind."""
