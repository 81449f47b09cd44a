"""Spatial gene expression of a whole tissue from dissociated cells and a map of few genes.

Start with :func:`fit_perler`; read ``perler.py`` (the method on one screen), then ``mixture.py`` (the
equations) and ``em.py`` (how they are fitted). Importing this package configures nothing and touches no
device; a name is imported when it is first asked for, so that the program can say before JAX starts what it
may log.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from perler_jax.compiler_faults import warn_of_compiler_faults
from perler_jax.versions import package_version

if TYPE_CHECKING:
    from perler_jax.datasets import load_fly
    from perler_jax.errors import PerlerFileError, PerlerInputError, PerlerWarning
    from perler_jax.evidence import CellEvidence, coordinate_evidence, region_evidence
    from perler_jax.files import load_fit
    from perler_jax.fit import PerlerFit
    from perler_jax.gradients import differentiable_objective
    from perler_jax.inputs.data import CellExpression, SpatialReference
    from perler_jax.inputs.intake import as_cells, as_reference
    from perler_jax.inputs.io import read_cells, read_reference
    from perler_jax.outer import OuterScores, cross_validate
    from perler_jax.perler import fit_perler
    from perler_jax.settings import PerlerSettings
    from perler_jax.simulation.simulate import SimulatedEmbryo, simulate_embryo
    from perler_jax.spatial_export import to_spatialdata

_WHERE = {
    "CellEvidence": "evidence",
    "CellExpression": "inputs.data",
    "OuterScores": "outer",
    "PerlerFileError": "errors",
    "PerlerFit": "fit",
    "PerlerInputError": "errors",
    "PerlerSettings": "settings",
    "PerlerWarning": "errors",
    "SimulatedEmbryo": "simulation.simulate",
    "SpatialReference": "inputs.data",
    "as_cells": "inputs.intake",
    "as_reference": "inputs.intake",
    "coordinate_evidence": "evidence",
    "cross_validate": "outer",
    "differentiable_objective": "gradients",
    "fit_perler": "perler",
    "load_fit": "files",
    "load_fly": "datasets",
    "read_cells": "inputs.io",
    "read_reference": "inputs.io",
    "region_evidence": "evidence",
    "simulate_embryo": "simulation.simulate",
    "to_spatialdata": "spatial_export",
}

__all__ = [
    "CellEvidence",
    "CellExpression",
    "OuterScores",
    "PerlerFileError",
    "PerlerFit",
    "PerlerInputError",
    "PerlerSettings",
    "PerlerWarning",
    "SimulatedEmbryo",
    "SpatialReference",
    "as_cells",
    "as_reference",
    "coordinate_evidence",
    "cross_validate",
    "differentiable_objective",
    "fit_perler",
    "load_fit",
    "load_fly",
    "read_cells",
    "read_reference",
    "region_evidence",
    "simulate_embryo",
    "to_spatialdata",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return package_version()
    if name == "pl":  # `import perler_jax as pj` is enough for pj.pl.spatial
        return import_module(f"{__name__}.pl")
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})


warn_of_compiler_faults()
