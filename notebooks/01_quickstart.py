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
# # Quickstart
#
# *I have single cells that lost their place, and a map of the tissue that shows few genes. Where is every other
# gene on?*
#
# Two tables go in, one comes out: all genes at all places. Then three things to look at before you believe it.

# %%
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import entropy

import perler_jax as pj
from perler_jax.plotting import plot_pattern, plot_pattern_grid, plot_posterior

# %% [markdown]
# ## Two AnnData go in
#
# *Cells*: cells x genes, best as raw counts. *Reference*: locations x landmarks (the genes that the map shows),
# with positions in `obsm["spatial"]`. Yours come from `anndata.read_h5ad`; tables and other files are the
# subject of notebook 07. Here both come from a simulated fly embryo, because there the truth is known: the right
# half of an egg, 500 micrometres long, head on the left in all pictures.

# %%
egg = pj.simulate_embryo(seed=1, n_locations=1000, n_cells=500, n_genes=100, n_landmarks=40)
cells, reference = egg.cells, egg.reference
print(cells)
print(reference)

# %% [markdown]
# ## One call
#
# Landmarks are the genes that have the same name on both sides; nothing is renamed for you. The call normalises
# and logs both sides, carries the reference into the space of the cells by EM, and chooses how sharply cells vote
# for places by leaving out one landmark after the other.

# %%
fit = pj.fit_perler(cells, reference, progress=False)
fit

# %% [markdown]
# ## First look: how well were landmarks predicted that the fit had not seen?
#
# A score is the correlation over all locations between a prediction and the map of that gene. There are two
# columns to know:
#
# - `nested`: the landmark took part neither in the mapping that predicts it nor in the choice of how to predict it
#   (the mappings of the other landmarks have seen it). **This is the one to report.** It is what a gene without a
#   map may hope for.
# - `reconstruction`: the landmark was in the fit. Always higher, and it says nothing about other genes.

# %%
ordered = fit.scores.sort_values("nested")
figure, ax = plt.subplots(figsize=(9, 3.4), layout="constrained")
ax.plot(ordered.index, ordered["reconstruction"], "o", ms=4, color="0.65", label="in the fit")
ax.plot(ordered.index, ordered["nested"], "o", ms=5, color="#35608D", label="held out (nested)")
ax.set(ylabel="correlation with the map", ylim=(0, 1), xlim=(-1, len(ordered)))
ax.tick_params(axis="x", rotation=90, labelsize=8)
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False, loc="lower right")
plt.show()
print(
    f"mean of nested scores {ordered['nested'].mean():.2f}, in the fit {ordered['reconstruction'].mean():.2f}"
)

# %% [markdown]
# Look at the left end. A low point is a gene whose cells and map disagree (a poor stain, few molecules), or one
# that the other landmarks say nothing about. The mean alone hides both.
#
# ## All genes at all places
#
# `reconstruct` gives an AnnData, locations x genes, in log2 units of the cells, with the positions.

# %%
result = fit.reconstruct()
result

# %% [markdown]
# Six genes that are not in the map, each beside its truth. The last one, `flat1`, has no pattern at all.

# %%
genes = ["mix17", "mix18", "mix20", "mix22", "stripe14_1", "flat1"]
coordinates = np.asarray(result.obsm["spatial"])
plot_pattern_grid(
    np.asarray(result[:, genes].X), coordinates, genes, truth=np.asarray(egg.truth[:, genes].X), columns=2
)
plt.show()

# %% [markdown]
# **Where this picture misleads.** Every panel runs from its own lowest to its own highest value, so that a gene
# without pattern looks like one with a pattern. Draw the two on one scale before you believe in a weak one. Most of
# `flat1` is then even; what is left are specks where few cells speak:

# %%
shown = result[:, ["mix18", "flat1"]].to_df()
centred = shown - shown.mean()
limits = (float(centred.min().min()), float(centred.max().max()))
figure, axes = plt.subplots(1, 2, figsize=(9, 2.1), layout="constrained")
for ax, gene in zip(axes, centred, strict=True):
    unit = "log2 less mean" if gene == "flat1" else None
    plot_pattern(centred[gene].to_numpy(), coordinates, ax=ax, title=gene, limits=limits, unit=unit)
plt.show()

# %% [markdown]
# Also: fine patterns come out too flat. `stripe14_1` has fourteen stripes, each about as wide as two locations;
# the prediction is an average over cells that the landmarks cannot tell apart, and it blurs them. Trust *where* a
# pattern is before you trust *how high*. Notebook 06 puts numbers to this, gene by gene.
#
# ## Where did a cell come from?
#
# `posterior` gives the probability of every location, for the cells that you name or for all (cells x locations
# numbers: ask for few where there are many). Entropy says how many locations share it: here are the typical cell
# and the most doubtful one.

# %%
origins = fit.posterior()
doubt = pd.Series(entropy(origins, axis=1), origins.index).sort_values()
names = [doubt.index[len(doubt) // 2], doubt.index[-1]]
figure, axes = plt.subplots(1, 2, figsize=(11, 2.7), layout="constrained")
for ax, name in zip(axes, names, strict=True):
    truth = int(cells.obs.loc[name, "true_location"])
    plot_posterior(origins.loc[name].to_numpy(), coordinates, truth=truth, ax=ax, title=name)
plt.show()

# %% [markdown]
# This is the model's own posterior. It tends to be too sure of itself: it takes the map for exact.
# `perler_jax.trust.cell_positions` (notebook 06) gives regions that hold what they promise.
#
# ## Keep it
#
# The result is an ordinary h5ad. The fit is one npz without the expression, which you give again on loading.

# %%
with TemporaryDirectory() as name:
    result.write_h5ad(Path(name) / "result.h5ad")
    fit.save(Path(name) / "fit.npz")
    again = pj.load_fit(Path(name) / "fit.npz", cells=cells)
np.abs(again.reconstruct(["mix18"]).X - result[:, ["mix18"]].X).max()

# %% [markdown]
# **Next.** What the model assumes: 02. How sharply cells vote: 03. What you may believe: 06. Your own files: 07.
