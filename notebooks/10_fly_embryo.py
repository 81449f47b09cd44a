# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Real data: the fly embryo
#
# *A whole embryo, 3039 places with 84 mapped genes; 1297 cells, 8924 genes. What does* engrailed *look like, which nobody
# mapped?*
#
# This is the data set of the paper: cells of stage 6 (Karaiskos et al. 2017) and the atlas of the Berkeley Drosophila
# Transcription Network Project. `load_fly` reads the published files from a folder; the environment variable
# `PERLER_JAX_DATA` says where it is.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import perler_jax as pj
from perler_jax.trust import cell_positions

fly = pj.load_fly(Path(os.environ["PERLER_JAX_DATA"]) / "drosophila")
print(fly)

# %%
fit = pj.fit_perler(fly.cells, fly.reference, progress=False)
pj.pl.scores(fit)
plt.show()
print(
    f"mean nested score {fit.scores['nested'].mean():.3f}; of the paper's way {fit.scores['nested_paper'].mean():.3f}"
)

# %% [markdown]
# Each landmark is predicted by a mapping that has not seen it. Look at three of them: a gap gene, a pair-rule gene, and the
# mesoderm.

# %%
for gene in ("Kr", "eve", "sna"):
    pj.pl.compare(fit, gene, view="lateral")
    plt.show()

# %% [markdown]
# ## Genes without a map

# %%
result = fit.reconstruct(["en", "wg", "hh", "Ubx"])
pj.pl.spatial(result, color=["en", "wg", "hh", "Ubx"], ncols=2, view="lateral")
plt.show()

# %% [markdown]
# *en*, *wg* and *hh* are segment-polarity genes with fourteen narrow stripes a little later in development. The default
# smooths over about one place and shows fewer, broader ones; that costs stripes and gains correlation. Who counts stripes
# takes the paper's weighted mean, `settings=pj.PerlerSettings.paper()` (figures in experiments/fly).
#
# ## Where is a cell from?

# %%
some = fly.cells.obs_names[:200]
where = cell_positions(fit, some)
print(where)
print(
    f"90 % of a cell's probability lies within {where.table['radius_90'].median():.0f} um of its likeliest place (median)"
)
pj.pl.positions(where, cell=some[int(np.argmin(where.table["radius_90"]))])
plt.show()

# %% [markdown]
# **Where it misleads.** The atlas is a mean of many embryos, of an age a little before that of the cells: a gene that
# moved in between is put where the atlas's genes say, not where it was. And left and right cannot be told: the map is of
# one half.
