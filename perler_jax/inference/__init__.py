"""The mapping as a probabilistic program: one NumPyro model, and every way to fit it.

Read ``model.py`` first, then ``priors.py``. Every fit holds the same `MappingParams`, and what is its own.
"""

from perler_jax.inference.batches import BatchedFit, fit_batches
from perler_jax.inference.bayes_arviz import leave_one_out, to_arviz
from perler_jax.inference.laplace import LaplaceFit, fit_laplace
from perler_jax.inference.map_em import MapFit, fit_map_em
from perler_jax.inference.map_fit import fit_map
from perler_jax.inference.model import MappedCells, mapping_model
from perler_jax.inference.model_comparison import compare_metagenes
from perler_jax.inference.nuts import NutsFit, sample_nuts
from perler_jax.inference.priors import ConjugatePriors, MappingPriors, data_scaled_priors
from perler_jax.inference.spatial import (
    autoregressive_location_weights,
    location_graph,
    smooth_location_weights,
)
from perler_jax.inference.variational import VariationalFit, fit_svi

__all__ = [
    "BatchedFit",
    "ConjugatePriors",
    "LaplaceFit",
    "MapFit",
    "MappedCells",
    "MappingPriors",
    "NutsFit",
    "VariationalFit",
    "autoregressive_location_weights",
    "compare_metagenes",
    "data_scaled_priors",
    "fit_batches",
    "fit_laplace",
    "fit_map",
    "fit_map_em",
    "fit_svi",
    "leave_one_out",
    "location_graph",
    "mapping_model",
    "sample_nuts",
    "smooth_location_weights",
    "to_arviz",
]
