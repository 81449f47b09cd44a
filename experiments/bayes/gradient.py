"""One gradient of the log posterior against one EM pass, in turn in one process."""

from __future__ import annotations

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer.util import log_density

from perler_jax import PerlerFit
from perler_jax.inference.model import mapping_model, sites_from_params
from perler_jax.inference.priors import data_scaled_priors, site_priors
from perler_jax.mixture import MappingParams, expected_statistics
from perler_jax.settings import Precision, device_precision

__all__ = ["gradient_over_em_pass"]


def gradient_over_em_pass(
    fit: PerlerFit, params: MappingParams, dtype: Precision, repeats: int
) -> dict[str, float]:
    """Median seconds of both and the median of their ratios; value and gradient come together."""
    with device_precision(dtype):
        x, r = jnp.asarray(fit.cell_metagenes, dtype), jnp.asarray(fit.reference_metagenes, dtype)
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), params)
        priors = site_priors(data_scaled_priors(x, r), x.shape[1], len(r), dtype)
        sites = sites_from_params(params)

        def log_posterior(sites: dict[str, Any], x: jax.Array, r: jax.Array) -> jax.Array:
            return log_density(mapping_model, (x, r, priors), {}, sites)[0]

        gradient = jax.jit(jax.value_and_grad(log_posterior))
        work = {
            "gradient": lambda: gradient(sites, x, r),
            "em_pass": lambda: expected_statistics(params, x, r),
        }
        times: dict[str, list[float]] = {name: [] for name in work}
        for repeat in range(repeats + 2):  # the first two compile and warm up
            for name, call in work.items():
                start = time.perf_counter()
                jax.block_until_ready(call())
                if repeat >= 2:
                    times[name].append(time.perf_counter() - start)
    ratios = np.array(times["gradient"]) / np.array(times["em_pass"])
    return {
        "gradient_seconds": float(np.median(times["gradient"])),
        "em_pass_seconds": float(np.median(times["em_pass"])),
        "ratio": float(np.median(ratios)),
    }
