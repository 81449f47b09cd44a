"""EM of one fold, as a value: the same choices make the same compiled program, whoever asks for it."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
from jaxtyping import Array

from perler_jax.density import cell_votes
from perler_jax.em import fit_em, initial_params
from perler_jax.em_loop import StopRule
from perler_jax.evidence import CellEvidence
from perler_jax.mixture import MappingParams
from perler_jax.noise import NoiseFamily
from perler_jax.streaming import Tiles

__all__ = ["FoldEM"]

# EM starts with some steps on a sample of at least so many, if that is a small part of all: three whole
# passes fewer of eight, but one more program to compile.
_LEAST_CELLS, _LEAST_LOCATIONS, _SMALL_PART, _SAMPLE_STEPS = 600, 700, 8, 5


@dataclasses.dataclass(frozen=True)
class FoldEM:
    """How EM runs in every fold; attributes as the arguments of `fit_held_out`."""

    noise_family: NoiseFamily
    foreign_share: float | None
    learn_location_weights: bool
    tolerance: float
    max_steps: int
    stop_rule: StopRule
    accelerate: bool
    tiles: Tiles | None

    def __call__(self, fold: dict[str, Array], shared: tuple[Any, CellEvidence | None]) -> dict[str, Array]:
        """Fit one fold.

        Args:
            fold: its metagenes x and r, and arrays that are handed on.
            shared: ln pi and the evidence, each None where there is none.

        Returns:
            What was handed on, with parameters ("params/...", "foreign/..."), steps, convergence and votes.
        """
        log_pi, evidence = shared
        x, r = fold["x"], fold["r"]
        # Named as for the fit of all landmarks: the same program, if no fold has fewer metagenes.
        em = self._fit(
            *(x, r, self._start(x, r, log_pi, evidence)),
            cell_weights=None,
            evidence=evidence,
            learn_location_weights=self.learn_location_weights,
            max_steps=self.max_steps,
            tiles=self.tiles,
        )
        found = {name: value for name, value in fold.items() if name not in ("x", "r")} | {
            "n_steps": em.n_steps,
            "converged": em.converged,
            "votes": cell_votes(em.params, x, r, evidence, tiles=self.tiles),
        }
        params = {f"params/{name}": value for name, value in vars(em.params).items() if name != "foreign"}
        foreign = {} if em.params.foreign is None else vars(em.params.foreign)
        found |= params | {f"foreign/{name}": value for name, value in foreign.items()}
        return {name: value for name, value in found.items() if isinstance(value, jax.Array)}

    @property
    def _fit(self) -> Any:
        options = {"tolerance": self.tolerance, "stop_rule": self.stop_rule, "accelerate": self.accelerate}
        return functools.partial(fit_em, **options)

    def _start(self, x: Array, r: Array, log_pi: Any, evidence: CellEvidence | None) -> MappingParams:
        """The usual start, or some steps further by a sample.

        A sample shows the way, unless a weight of every location or the share of strangers is learned.
        """
        start = initial_params(x, r, log_pi, noise_family=self.noise_family, foreign_share=self.foreign_share)
        if not self.accelerate or self.learn_location_weights or self.foreign_share is not None:
            return start
        steps = max(1, len(x) // _LEAST_CELLS), max(1, len(r) // _LEAST_LOCATIONS)
        if steps[0] * steps[1] < _SMALL_PART:
            return start
        some_cells, some_locations = (slice(None, None, step) for step in steps)
        found = self._fit(
            x[some_cells],
            r[some_locations],
            dataclasses.replace(
                start, log_location_weights=None if log_pi is None else log_pi[some_locations]
            ),
            evidence=None if evidence is None else evidence.sample(some_cells, some_locations),
            max_steps=min(_SAMPLE_STEPS, self.max_steps),
        )
        return dataclasses.replace(found.params, log_location_weights=start.log_location_weights)
