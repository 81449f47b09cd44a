"""Beartype for jaxtyping's import hook, which decorates nested functions anew whenever they are made.

What beartype makes of a nested function depends on its signature alone: jaxtyping gives it an empty function
with that signature. So it is made once, and every call of every function is still checked.
"""

from beartype import beartype

_MADE = {}


def checked(function):
    """The empty function with its annotations executed."""
    if "<locals>" not in function.__qualname__:
        return beartype(function)
    names = function.__code__.co_varnames
    key = (function.__module__, function.__qualname__, names, repr(function.__annotations__))
    if key not in _MADE:
        _MADE[key] = beartype(function)
    return _MADE[key]
