"""What the scripts of the gallery draw: a simulated embryo, its fit and its prediction."""

import numpy as np
import pandas as pd

import perler_jax as pj
from perler_jax import plotting, trust

embryo = pj.simulate_embryo(seed=1, n_locations=800, n_cells=400, n_genes=80, n_landmarks=30)
cells, reference, truth = embryo.cells, embryo.reference, embryo.truth
settings = pj.PerlerSettings(n_metagenes=12, folds=10)
fit = pj.fit_perler(cells, reference, settings=settings, progress=False)
result = fit.reconstruct()
places = np.asarray(reference.obsm["spatial"])
