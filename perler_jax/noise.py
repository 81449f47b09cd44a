"""How cells scatter around the mapped reference, and cells that are from elsewhere: values of the model.

With D the Mahalanobis distance of a cell from a mapped location, in M metagenes:

    Gaussian    ln p = -D^2 / 2 + const
    Student t   ln p = -(nu + M) / 2 ln(1 + D^2 / nu) + const

A t cell is a Gaussian one whose precision is its own, tau ~ Gamma(nu / 2, nu / 2); EM weighs each pair of
cell and location by the expected precision, E[tau] = (nu + M) / (nu + D^2): an outlier counts for little.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perler_jax._typing import pytree
from perler_jax.choices import Noise, degrees_of_freedom
from perler_jax.errors import PerlerInputError

__all__ = ["FOREIGN_SHARE", "GAUSSIAN", "ForeignCells", "Gaussian", "NoiseFamily", "StudentT", "noise_of"]


@dataclasses.dataclass(frozen=True)
class Gaussian:
    """Normal noise (the paper's)."""

    def log_shape(self, squared: Array, n_metagenes: int) -> tuple[Array, Array | None]:
        """Log density at squared distances up to a constant, and the expected precision (None is one)."""
        return -0.5 * squared, None

    def log_constant(self, n_metagenes: int) -> float:
        """What is missing of the log density, but for the logarithms of sigma."""
        return -0.5 * n_metagenes * math.log(2 * math.pi)

    def draw_precision(self, key: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
        """Precisions tau of cells, relative to that of their noise."""
        return jnp.ones(shape, dtype)


@dataclasses.dataclass(frozen=True)
class StudentT:
    """Heavy tails: every cell has a precision of its own, the same in all metagenes.

    Attributes:
        df: degrees of freedom nu > 0; large values approach the Gaussian.

    Raises:
        PerlerInputError: on a df that is not positive and finite.
    """

    df: float = 5.0

    def __post_init__(self) -> None:
        degrees_of_freedom(self.df)

    def log_shape(self, squared: Array, n_metagenes: int) -> tuple[Array, Array | None]:
        """Log density at squared distances up to a constant, and the expected precision."""
        total = self.df + n_metagenes
        return -0.5 * total * jnp.log1p(squared / self.df), total / (self.df + squared)

    def log_constant(self, n_metagenes: int) -> float:
        """What is missing of the log density, but for the logarithms of sigma."""
        gammas = math.lgamma((self.df + n_metagenes) / 2) - math.lgamma(self.df / 2)
        return gammas - 0.5 * n_metagenes * math.log(self.df * math.pi)

    def draw_precision(self, key: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
        """Precisions tau of cells, relative to that of their noise."""
        return jax.random.gamma(key, self.df / 2, shape, dtype) / (self.df / 2)


NoiseFamily: TypeAlias = Gaussian | StudentT
GAUSSIAN = Gaussian()
FOREIGN_SHARE = 0.02  # of all cells, where EM begins


def noise_of(name: Noise, df: float) -> NoiseFamily:
    """The family of that name; ``df`` is of "student_t" alone."""
    return GAUSSIAN if name == "gaussian" else StudentT(float(df))


@pytree
class ForeignCells:
    """A component for cells that are from none of the locations: debris, doublets, another tissue.

    Its density has the family of the noise, around the mean of all cells and as wide as they are.

    Attributes:
        share: of all cells, in (0, 1); learned by EM.
        mean: (metagenes,) centre.
        spread: (metagenes,) standard deviation (scale of a Student t) per metagene.
    """

    share: Float[Array, "*any"]
    mean: Float[Array, "*folds metagenes"]
    spread: Float[Array, "*folds metagenes"]

    @classmethod
    def of_cells(cls, cells: Float[Array, "cells metagenes"], share: float = FOREIGN_SHARE) -> ForeignCells:
        """As wide as the cells themselves.

        Args:
            cells: x, metagenes of the cells.
            share: where EM starts.

        Raises:
            PerlerInputError: on a share outside of (0, 1).
        """
        if not 0 < share < 1:
            raise PerlerInputError(f"expected a share of foreign cells between 0 and 1, found {share}")
        spread = cells.std(axis=0)
        return cls(jnp.asarray(share, cells.dtype), cells.mean(axis=0), jnp.where(spread > 0, spread, 1.0))

    def log_odds(self, cells: Float[Array, "cells metagenes"], family: NoiseFamily) -> Float[Array, " cells"]:
        """Ln of share / (1 - share) times the density, but for the family's constant."""
        squared = jnp.sum(((cells - self.mean) / self.spread) ** 2, axis=1)
        prior = jnp.log(self.share) - jnp.log1p(-self.share)
        shape, _ = family.log_shape(squared, cells.shape[1])
        return prior + shape - jnp.sum(jnp.log(self.spread))
