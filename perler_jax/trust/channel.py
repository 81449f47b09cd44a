"""What cells say of predicted patterns: every gene as a noisy channel from the place of a cell.

A pattern predicted from a cell's own expression agrees with the cell by construction, and pure noise would
seem to say a lot. So a pattern is drawn from some of the cells, and its line and noise, y = a m + b + noise,
are found among the others. A pattern that is only the noise of its cells has no slope a there.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from perler_jax.evidence import CellEvidence
from perler_jax.fit import PerlerFit
from perler_jax.mixture import MappingParams, posterior_moments
from perler_jax.weights import weighted_means

__all__ = ["Channel", "CrossView"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Channel:
    """What cells say of patterns: expression = sensitivity * pattern + background + noise.

    Attributes:
        pattern: (locations, genes) m.
        mean: (judging, genes) of m over the posterior of the cell's place.
        variance: (judging, genes) likewise.
        sensitivity: (genes,) a.
        noise: (genes,) standard deviation.
    """

    pattern: Float[Array, "locations genes"]
    mean: Float[np.ndarray, "judging genes"]
    variance: Float[np.ndarray, "judging genes"]
    sensitivity: Float[np.ndarray, " genes"]
    noise: Float[np.ndarray, " genes"]

    @cached_property
    def gain(self) -> Float[np.ndarray, " genes"]:
        """Sensitivity over noise; zero where the judging cells contradict the pattern."""
        usable = (self.sensitivity > 0) & (self.noise > 0)
        return np.where(usable, self.sensitivity / np.where(self.noise > 0, self.noise, 1.0), 0.0)

    @property
    def nats(self) -> Float[np.ndarray, " genes"]:
        """What a cell's expression tells of its place at most; a mean over cells."""
        return 0.5 * np.log1p(self.variance * self.gain**2).mean(axis=0)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class CrossView:
    """Patterns are drawn from some cells, and judged by others.

    Attributes:
        fit: places every cell.
        drawn: (drawn,) indices of cells.
        judging: (judging,) indices of other cells.
    """

    fit: PerlerFit
    drawn: Int[np.ndarray, " drawn"]
    judging: Int[np.ndarray, " judging"]

    def patterns(self, deviations: Float[np.ndarray, "cells genes"]) -> Float[Array, "locations genes"]:
        """Weighted means over the drawn cells of log2 expression less its mean."""
        near, far, votes = self._sides
        return weighted_means(
            self.fit.weights,
            near,
            far,
            self.fit.em.params.log_location_weights,
            jnp.asarray(deviations[self.drawn], near.dtype),
            evidence=self.fit.evidence_on_device(self.drawn),
            votes=votes,
        )[0]

    @cached_property
    def _sides(self) -> tuple[Array, Array, Array | None]:
        near, far = self.fit.distance_space()
        votes = self.fit.votes()
        return near[self.drawn], far, None if votes is None else votes[self.drawn]

    def expect(self, values: Float[Array, "locations values"]) -> Float[np.ndarray, "judging values"]:
        """What the posterior of each judging cell expects of values at its place."""
        found = _expected(
            self.fit.em.params,
            jnp.asarray(self.fit.cell_metagenes[self.judging]),
            jnp.asarray(self.fit.reference_metagenes),
            self.fit.evidence_on_device(self.judging),
            values,
        )
        return np.asarray(found, np.float64)

    def channel(self, deviations: Float[np.ndarray, "cells genes"]) -> Channel:
        """Line and noise of each gene against its pattern."""
        m = self.patterns(deviations)
        first, second = np.split(self.expect(jnp.concatenate([m, m**2], axis=1)), 2, axis=1)
        y = deviations[self.judging]
        centred = first - first.mean(axis=0)
        spread = second.mean(axis=0) - first.mean(axis=0) ** 2
        # The closed M step (Eqs. 13-15) for one gene at a given posterior.
        a = np.divide((centred * y).mean(axis=0), spread, out=np.zeros(len(spread)), where=spread > 0)
        noise = np.sqrt(np.maximum(y.var(axis=0) - a * (centred * y).mean(axis=0), 0.0))
        return Channel(m, first, np.maximum(second - first**2, 0.0), a, noise)


@jax.jit
def _expected(
    params: MappingParams,
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
    evidence: CellEvidence | None,
    values: Float[Array, "locations values"],
) -> Float[Array, "cells values"]:
    moments = posterior_moments(params, cells, reference, evidence, location_values=values)
    assert moments.of_cells is not None
    return moments.of_cells
