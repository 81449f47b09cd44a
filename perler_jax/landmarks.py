"""The landmarks: genes that the cells and the reference share by exact name, and that vary on both sides."""

import logging

import numpy as np
from jaxtyping import Shaped

from perler_jax.errors import PerlerInputError
from perler_jax.inputs.checks import warn
from perler_jax.inputs.data import CellExpression, SpatialReference
from perler_jax.inputs.labels import few, near_misses
from perler_jax.inputs.missing import FEWEST_LANDMARKS
from perler_jax.inputs.names import better_names, require_unique

__all__ = ["align_landmarks"]

logger = logging.getLogger("perler_jax")


def align_landmarks(
    cells: CellExpression, reference: SpatialReference, *, minimum: int = FEWEST_LANDMARKS
) -> Shaped[np.ndarray, " landmarks"]:
    """Names of the landmarks to use: shared by exact name, in reference order, varying on both sides.

    No name is ever changed: names that differ in case or punctuation, or that lie elsewhere in the data, are
    shown as a hint, not matched.

    Args:
        cells: cell expression.
        reference: reference map.
        minimum: fewest landmarks with which to go on.

    Returns:
        (landmarks,) names, a subset of ``reference.genes``.

    Warns:
        PerlerWarning: landmarks that the cells lack, or that are constant on a side, and so are dropped.

    Raises:
        PerlerInputError: fewer than ``minimum`` landmarks are left, or bad values in backed landmarks.
    """
    present = np.isin(reference.genes, cells.genes)
    shared, absent = reference.genes[present], reference.genes[~present]
    found = (
        f"{len(shared)} of {len(reference.genes)} landmarks shared with the {cells.n_genes} genes of cells"
    )
    for names, side in ((cells.names, "cells"), (reference.names, "reference")):
        require_unique(names, shared, side)
    more = better_names(cells.genes, cells.names, reference.genes, reference.names, len(shared))
    hint = near_misses(absent, cells.genes) + more
    if len(shared) < minimum:
        raise PerlerInputError(
            f"expected at least {minimum} landmarks with the same name in cells and reference; found {found} "
            f"(reference: {few(reference.genes)}; cells: {few(cells.genes)}){hint}; rename one side so "
            "that the names agree exactly, and check that rows are cells and columns are genes"
        )
    if len(absent):
        warn(
            f"expected every landmark among the genes of the cells; found {found}, so {len(absent)} are "
            f"dropped ({few(absent)}){hint}; rename them if they are there under another name"
        )
    elif more:
        warn(f"expected as many landmarks as there are; found {found}{more}")
    varies = np.concatenate([block.min(0) < block.max(0) for _, block in cells.gene_blocks(shared, 64)])
    spatial = np.ptp(reference.values[:, present], axis=0) > 0
    for constant, side in ((~varies, "cells"), (~spatial & varies, "reference")):
        if constant.any():
            warn(
                f"expected landmarks that vary; found {constant.sum()} constant in the {side} "
                f"({few(shared[constant])}), so dropped; leave them out to silence this"
            )
    landmarks = shared[varies & spatial]
    if len(landmarks) < minimum:
        raise PerlerInputError(
            f"expected at least {minimum} landmarks that vary in cells and reference; found {len(landmarks)} "
            f"of {len(shared)} shared ones ({few(landmarks) or 'none'}); give more landmarks or more cells"
        )
    logger.info("%s; %d used", found, len(landmarks))
    return landmarks
