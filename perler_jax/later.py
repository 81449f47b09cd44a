"""Methods that are written elsewhere, on top of the class that they belong to, and come when asked for."""

from __future__ import annotations

from importlib import import_module
from types import MethodType
from typing import Any

__all__ = ["later"]


class later:
    """A method whose function lies in another module: ``transfer = later("module:function")``.

    Asked of the class it is that function itself, with its signature and docstring; of an instance, the
    function with the instance as its first argument.
    """

    def __init__(self, where: str) -> None:
        self.where = where

    def __get__(self, instance: Any, owner: Any) -> Any:
        module, _, name = self.where.partition(":")
        function = getattr(import_module(f"perler_jax.{module}"), name)
        return function if instance is None else MethodType(function, instance)
