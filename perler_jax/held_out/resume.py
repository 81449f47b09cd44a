"""Tuning that survives a kill: each batch of scores is kept when it is done."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float

from perler_jax.held_out.search import Look, Scorer
from perler_jax.scale.checkpoint import Checkpoint, fingerprint

__all__ = ["KeptScorer"]


@dataclasses.dataclass(frozen=True, eq=False)
class KeptScorer:
    """A scorer that asks another one only for what is not in a checkpoint.

    Attributes:
        scorer: does the work.
        checkpoint: of its held-out fits and no others.
    """

    scorer: Scorer
    checkpoint: Checkpoint

    def __call__(
        self, points: Float[np.ndarray, "*folds points 2"], *, look: Look = "whole"
    ) -> Float[np.ndarray, "points landmarks"]:
        """As the scorer's."""
        name = f"scores-{fingerprint(points, look)[:24]}"
        return self.checkpoint.keep(name, lambda: {"scores": self.scorer(points, look=look)})["scores"]

    def derivatives(
        self, point: Float[np.ndarray, " 2"]
    ) -> tuple[Float[np.ndarray, " landmarks"], Float[np.ndarray, "landmarks 2"]]:
        """As the scorer's."""
        found = self.checkpoint.keep(
            f"slopes-{fingerprint(point)[:24]}",
            lambda: dict(zip(("scores", "slopes"), self.scorer.derivatives(point), strict=True)),
        )
        return found["scores"], found["slopes"]
