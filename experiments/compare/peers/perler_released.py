"""The released Perler (Okochi et al. 2021). No registry has it: PERLER_HOME is a checkout of its repository.

The Python that runs it, .peers/perler_released, must have the SciPy that it pins: later ones refuse its call.
"""

from __future__ import annotations

import os
import sys

import numpy as np
import pandas as pd

from experiments.compare.contract import Cells, Prediction, Reference

sys.path.insert(0, os.environ["PERLER_HOME"])

import perler


def version() -> str:
    """Of the program."""
    return perler.__version__


def predict(cells: Cells, reference: Reference, genes: np.ndarray, knob: None) -> Prediction:
    """Fit, tune by its own folds over the training genes and its own grid, reconstruct."""
    wanted = np.concatenate([reference.genes, genes])
    located = pd.DataFrame(reference.linear, columns=reference.genes)
    fit = perler.PERLER(
        data=pd.DataFrame(cells.of(wanted), columns=wanted),
        reference=located,
        n_metagenes=min(60, int(0.85 * located.shape[1])),  # a fold of its own must still have as many genes
    )
    fit.em_algorithm(optimize_pi=False)
    fit.calc_dist()
    fit.k_folds_cv(k=_folds(located.shape[1]), workers=1)
    fit.grid_search(workers=1)
    fit.spatial_reconstruction(z_scored=False)
    return Prediction(fit.result[genes.tolist()].to_numpy(), lambda: fit.gamma)


def _folds(landmarks: int) -> int:
    """At most ten, and none that the program's fold sizes would leave empty."""
    return max(k for k in range(2, 11) if (k - 1) * (landmarks // k + 1) < landmarks)
