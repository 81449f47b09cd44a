"""The one place that asks which JAX is there: releases whose programs for CPUs cannot be trusted.

Everything else takes JAX as all releases from the lowest required one on have it.

On CPUs, jaxlib 0.10.2 puts a product and the sums beside it into one program of the library YNNPACK. Where an
array is a constant of a jitted function, as data are in ``jax.jit(lambda p: log_density(p, x, r))``, rows
from 256 on come out wrong, without a word: |a r|^2 - 2 (a r) x of 600 locations was off by more than half of
its size, and NUTS ran away. jaxlib 0.11.0 has the same programs and is known to crash on some. The
requirements exclude both; whoever has one all the same is told at import.
"""

from __future__ import annotations

import os
import warnings
from importlib.metadata import version

from perler_jax.errors import PerlerWarning

__all__ = ["warn_of_compiler_faults"]

_FAULTY = {"0.10.2", "0.11.0"}
_REMEDY = "--xla_cpu_experimental_ynn_fusion_type="


def warn_of_compiler_faults(found: str | None = None, flags: str | None = None) -> None:
    """Warn if the installed compiler is one of them.

    Args:
        found: release of jaxlib; None looks it up.
        flags: of the compiler; None takes the environment's ``XLA_FLAGS``.
    """
    found = version("jaxlib") if found is None else found
    flags = os.environ.get("XLA_FLAGS", "") if flags is None else flags
    if found in _FAULTY and _REMEDY not in flags.split():
        warnings.warn(
            f"expected a jaxlib that is safe on CPUs, found {found}, which gives wrong numbers or "
            "crashes: install another (pip install 'jax!=0.10.2,!=0.11.0'), or set "
            f"XLA_FLAGS={_REMEDY} before Python starts",
            PerlerWarning,
            stacklevel=2,
        )
