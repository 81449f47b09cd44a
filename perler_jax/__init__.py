"""Spatial gene expression of a whole tissue from dissociated cells and a map of few genes.

Start with :func:`fit_perler`; read ``perler.py`` (the method on one screen), then ``mixture.py`` (the
equations) and ``em.py`` (how they are fitted). Importing this package configures nothing and touches no
device.
"""

from perler_jax.compiler_faults import warn_of_compiler_faults
from perler_jax.datasets import load_fly
from perler_jax.errors import PerlerFileError, PerlerInputError, PerlerWarning
from perler_jax.evidence import CellEvidence, coordinate_evidence, region_evidence
from perler_jax.files import load_fit
from perler_jax.fit import PerlerFit
from perler_jax.inputs.data import CellExpression, SpatialReference
from perler_jax.inputs.intake import as_cells, as_reference
from perler_jax.inputs.io import read_cells, read_reference
from perler_jax.perler import fit_perler
from perler_jax.settings import PerlerSettings
from perler_jax.simulation.simulate import SimulatedEmbryo, simulate_embryo

__all__ = [
    "CellEvidence",
    "CellExpression",
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
    "fit_perler",
    "load_fit",
    "load_fly",
    "read_cells",
    "read_reference",
    "region_evidence",
    "simulate_embryo",
]

warn_of_compiler_faults()
