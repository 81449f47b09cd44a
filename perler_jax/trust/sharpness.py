"""How sharp the posterior over origins may be, where nobody says it: chosen by what kind of map it is.

An atlas of averages or intensities is smooth: a location looks like its neighbours, and landmarks that agree
on where cells are from (`calibrate_by_agreement`) tell how sharp a posterior may be. Where each location is a
single, noisy cell, neighbours are unlike each other and landmarks agree on the type of a cell rather than on
its place: the posterior is then tried on the map's own cells (`calibrate_on_map`). Moran's I of the landmarks
tells the two apart: 0.9 on the fly, 0.5 to 0.7 on simulated atlases, 0.03 to 0.22 on maps of single cells
(STARmap, seqFISH, osmFISH). On a noisy atlas below the border the map's own cells give regions that are too
wide rather than too narrow.
"""

from __future__ import annotations

import logging
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from perler_jax.errors import PerlerInputError
from perler_jax.fit import PerlerFit
from perler_jax.preprocessing import reference_landmarks
from perler_jax.scores.metrics import morans_i
from perler_jax.trust.agreement import calibrate_by_agreement
from perler_jax.trust.calibration import calibrate_on_map
from perler_jax.trust.origins import OriginPosterior, Tempering

__all__ = ["Sharpness", "choose_tempering", "fitting_calibration"]

logger = logging.getLogger("perler_jax")

Sharpness: TypeAlias = Literal["auto", "agreement", "map"]

_ALIKE = 0.4  # Moran's I, the median over landmarks: between 0.36 and 0.46 both calibrations are honest
_FEWEST = 100  # locations: of fewer, too few neighbours are left to be told from others


def choose_tempering(
    fit: PerlerFit | OriginPosterior, how: Any = "auto", *, progress: bool = False
) -> Tempering:
    """How much to distrust the model's own posterior.

    Args:
        fit: a fit; its expression is needed where landmarks are to agree.
        how: "agreement" of disjoint sets of landmarks; "map", the map's own cells; "auto", the one of them
            that fits the map, and says which; or a tempering, which is given back.
        progress: show a progress bar.

    Raises:
        PerlerInputError: another word, no `PerlerFit`, or what `calibrate_by_agreement` and
            `calibrate_on_map` cannot use.
    """
    if isinstance(how, Tempering):
        return how
    if how not in get_args(Sharpness):
        known = "', '".join(get_args(Sharpness))
        raise PerlerInputError(f"expected tempering '{known}' or a Tempering; found {how!r}")
    if not isinstance(fit, PerlerFit):
        raise PerlerInputError(
            f"expected a PerlerFit for tempering={how!r}, found an OriginPosterior: give a Tempering"
        )
    if how == "auto":
        how = fitting_calibration(fit)
    if how == "map":
        return calibrate_on_map(fit, progress=progress).tempering
    return calibrate_by_agreement(fit, n_repeats=2, progress=progress).tempering


def fitting_calibration(fit: PerlerFit) -> Literal["agreement", "map"]:
    """The calibration that fits the map of a fit; where it is the map's own cells, the log says so."""
    reference = fit.reference
    if reference.coordinates is None or len(reference.locations) < _FEWEST:
        return "agreement"
    maps = np.asarray(reference_landmarks(reference, fit.landmarks), np.float64)
    alike = float(np.nanmedian(morans_i(maps, reference.coordinates, sections=reference.sections)))
    if not alike < _ALIKE:
        return "agreement"
    logger.info(
        "neighbouring locations of the map are unlike each other (Moran's I of landmarks %.2f), as single "
        "cells are: credible regions are calibrated on the map's own cells",
        alike,
    )
    return "map"
