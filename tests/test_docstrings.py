"""Public names say what goes in and what comes out, with shapes and units, and what they raise."""

import ast
import dataclasses
import inspect
import re
import textwrap
from types import FunctionType

import pytest

import perler_jax
from perler_jax import inference, pl, plotting, trust
from perler_jax.later import later
from perler_jax.scores import metrics

ROOMS = (perler_jax, trust, plotting, pl, inference, metrics)
ALIASES = {"Mirror", "View"}  # names of types, no functions
WITH_METHODS = {"PerlerFit", "PerlerSettings", "CellPositions", "CellEvidence"}


def public():
    """(name, object) of functions, classes and methods."""
    for room in ROOMS:
        for name in room.__all__:
            found = getattr(room, name)
            if name in ALIASES:
                continue
            yield name, found
            if name in WITH_METHODS:
                for own, method in vars(found).items():
                    method = getattr(found, own) if isinstance(method, later) else method
                    method = getattr(method, "__func__", method)
                    if not own.startswith("_") and isinstance(method, FunctionType):
                        yield f"{name}.{own}", method


def section(text, head):
    """Lines of a section of a Google docstring, and whether it is there."""
    found = re.search(rf"^{head}:\n((?:(?:    .*)?\n)*)", text + "\n", re.MULTILINE)
    return None if found is None else found[1]


def documented_class(function, annotation):
    """Whether a result is one of our classes, which says itself what it holds."""
    found = (
        inspect.unwrap(function).__globals__.get(annotation) if isinstance(annotation, str) else annotation
    )
    ours = inspect.isclass(found) and found.__module__.startswith("perler_jax")
    return ours and "Attributes:" in (found.__doc__ or "")


def raises(function):
    """Whether the body of a function raises an error of ours by itself."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    raised = [
        each.exc.func for each in ast.walk(tree) if isinstance(each, ast.Raise) and hasattr(each.exc, "func")
    ]
    names = {getattr(each, "id", getattr(each, "attr", "")) for each in raised}
    return bool(names & {"PerlerInputError", "PerlerFileError"})


def lacking(thing):
    """What a docstring does not say."""
    text = inspect.getdoc(thing) or ""
    if not text:
        return ["a docstring"]
    if inspect.isclass(thing):
        fields = [each.name for each in dataclasses.fields(thing)] if dataclasses.is_dataclass(thing) else []
        told = section(text, "Attributes") or ""
        return [f"the attribute {name}" for name in fields if not re.search(rf"^    {name}: \S", told, re.M)]
    signature = inspect.signature(thing)
    told = section(text, "Args") or ""
    lacks = [
        f"the argument {name}"
        for name in signature.parameters
        if name not in ("self", "cls") and not re.search(rf"^    \*{{0,2}}{name}: \S", told, re.M)
    ]
    result = signature.return_annotation
    silent = result in (None, "None", inspect.Signature.empty)
    if not silent and section(text, "Returns") is None and not documented_class(thing, result):
        lacks.append("Returns")
    if raises(inspect.unwrap(thing)) and section(text, "Raises") is None:
        lacks.append("Raises")
    return lacks


def test_what_lacks_is_found():
    def half(cells, n):
        """Half of them.

        Args:
            cells: (cells,) names.
        """
        raise perler_jax.PerlerInputError("expected")

    def whole(cells: list) -> list:
        """All of them.

        Args:
            cells: (cells,) names.

        Returns:
            (cells,) names.
        """

    def without_returns(cells: list) -> list:
        """All of them.

        Args:
            cells: (cells,) names.
        """

    assert lacking(half) == ["the argument n", "Raises"]
    assert lacking(whole) == []
    assert lacking(without_returns) == ["Returns"]
    assert lacking(lambda x: x) == ["a docstring"]


@pytest.mark.parametrize(("name", "thing"), [pytest.param(*each, id=each[0]) for each in public()])
def test_a_public_name_says_what_goes_in_and_out(name, thing):
    assert not lacking(thing)
