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
# # Trust: positions, intervals, reliability
#
# *Which cells, which values and which genes may I believe, and how do I know?*
#
# The embryo is simulated, so that every promise can be held against the truth. On your data you cannot do that, but
# every number below is made without the truth.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import perler_jax as pj
from perler_jax.plotting import plot_calibration, plot_comparison, plot_posterior, plot_reliability
from perler_jax.scores.metrics import pearson_by_gene, position_error
from perler_jax.trust import cell_positions, fit_intervals, gene_reliability, summarise
from perler_jax.trust.origins import Tempering

egg = pj.simulate_embryo(seed=1, n_locations=600, n_cells=300, n_genes=100, n_landmarks=30)
cells, coordinates = egg.cells, np.asarray(egg.reference.obsm["spatial"])
true_location = cells.obs["true_location"].to_numpy()
fit = pj.fit_perler(cells, egg.reference, settings=pj.PerlerSettings(n_metagenes=12), progress=False)
fit

# %% [markdown]
# ## 1. Where is a cell from, and how sure is that?
#
# The model's own posterior takes the map for exact and its metagenes for independent: it is too sure. On a smooth map
# as this one `cell_positions` lets three parts of the landmarks place each cell on their own, and softens the posterior
# (a *temperature* above 1) until they no longer contradict each other. On a map of single cells it takes these cells
# off the map and looks how well they are found. No truth is needed for either.

# %%
where = cell_positions(fit)
plain = cell_positions(fit, tempering=Tempering())  # the model's own
print(where)
where.table.iloc[:4, :8].round(2)

# %% [markdown]
# `radius_90` (micrometres) is how far one must go from the likeliest location to gather 90 % of the probability:
# the number to put into a figure legend. `effective_locations` is how many locations share the cell.
#
# Does a region of 90 % hold the true origin in 90 % of the cells? And the others?

# %%
promised = np.linspace(0.05, 0.95, 19)
figure, ax = plt.subplots(figsize=(3.9, 3.9), layout="constrained")
for name, found in {"tempered": where, "the model's own": plain}.items():
    levels = found.credible_levels(true_location)
    plot_calibration(promised, np.array([(levels < mass).mean() for mass in promised]), label=name, ax=ax)
plt.show()
held = {
    name: f"{found.contains(true_location, 0.9).mean():.0%}"
    for name, found in [("tempered", where), ("own", plain)]
}
print("regions of 90 % that hold the true origin:", held)

# %% [markdown]
# Read the upper right half of the picture: a curve below the diagonal promises too much. (On the left both lie above
# it whatever they do: the smallest region is one whole location, which is often the right one.) Now two cells: the
# most and the least certain.

# %%
order = where.table["effective_locations"].argsort().to_numpy()
figure, axes = plt.subplots(1, 2, figsize=(11, 2.8), layout="constrained")
for ax, cell in zip(axes, (order[0], order[-1]), strict=True):
    name = cells.obs_names[cell]
    plot_posterior(
        fit.posterior([name]).to_numpy()[0],
        coordinates,
        region=where.region(name, 0.9),
        truth=int(true_location[cell]),
        ax=ax,
        title=f"{name}: {where.table.loc[name, 'effective_locations']:.1f} effective locations",
    )
plt.show()

# %% [markdown]
# **Where the picture misleads.** Colours are the model's own posterior, the outline is the tempered region. A cell whose
# region lies in pieces is no error: patterns of landmarks repeat along the egg. The ring is then at the wrong end, and
# the *mean* position between the pieces, where the cell surely is not. Which point to use, if you must have one:

# %%
points = {"likeliest location": where.top, "medoid": where.medoid, "mean": where.mean}
truth = coordinates[true_location]
table = pd.DataFrame(
    {
        name: pd.Series(position_error(coordinates, at, truth)).describe()[["mean", "50%", "max"]]
        for name, at in points.items()
    }
).T
print("distance from the truth, um")
table.round(1)

# %% [markdown]
# For the typical cell the likeliest location is the true one, and the others are one location off. They differ in the cells that are far off: the mean hedges (see
# `max`), the likeliest location does not, the medoid is a location of the map with the smallest expected error. Which
# cells are far off? A large `radius_90` warns you: cut on it before you count cells in a region.

# %%
error = position_error(coordinates, where.top, truth)
sharp = (where.table["radius_90"] < where.table["radius_90"].median()).to_numpy()
print(
    f"mean error of the sharper half of the cells {error[sharp].mean():.0f} um, of the others {error[~sharp].mean():.0f} um"
)

# %% [markdown]
# ## 2. How sure is a predicted value?
#
# `summarise` gives the prediction with two layers of doubt. The *standard error* knows only of the disagreement of
# the cells behind a location. The *interval* has learned on hidden landmarks how wrong predictions really are: it is
# the one to use.

# %%
unseen = egg.truth.var.query("not landmark and `class` != 'unspatial'").index.tolist()
intervals = fit_intervals(fit)  # learned once
sure = summarise(fit, unseen, intervals=intervals)
print(sure.uns["perler"]["meaning"])

# %%
gene = "mix10"
one = sure[:, [gene]]
plot_comparison(
    np.asarray(egg.truth[:, gene].X)[:, 0],
    np.asarray(one.X)[:, 0],
    ((one.layers["upper"] - one.layers["lower"]) / 2)[:, 0],
    coordinates,
    names=("truth", "prediction", "half of the 90 % interval"),
    units=("truth", "log2", "log2"),
    title=gene,
)
plt.show()

# %% [markdown]
# The doubt is largest where the gene is on: a gene is on in few places, and how high is what cells tell worst. Do the
# intervals keep their promise for the genes that were in no map? Truth and prediction are in different units, so the
# truth is first put on the scale on which the prediction is its regression (`intervals.place`).

# %%
placed = intervals.place(np.asarray(egg.truth[:, unseen].X, float), np.asarray(sure.X, float))
off = np.abs(placed - sure.X) / (sure.layers["upper"] - sure.X)  # 1 is the end of the 90 % interval
levels = np.array([0.5, 0.6, 0.7, 0.8, 0.9])
scale = np.array([intervals.quantile(level) for level in levels]) / intervals.quantile(0.9)
by_gene = np.array([(off <= each).mean(axis=0) for each in scale])  # levels x genes
figure, ax = plt.subplots(figsize=(3.9, 3.9), layout="constrained")
low, high = np.quantile(by_gene, [0.1, 0.9], axis=1)
plot_calibration(levels, by_gene.mean(axis=1), lower=low, upper=high, label="genes without a map", ax=ax)
plt.show()
print(
    f"90 % intervals hold {by_gene[-1].mean():.0%} of the values; of the worst gene {by_gene[-1].min():.0%}"
)

# %% [markdown]
# The line lies above the diagonal: the intervals are wider than they promise. They were learned on the landmarks' maps,
# which are noisy as real stains are, and are held here against a truth without noise.
#
# **Where it misleads.** The promise is for the *average over genes and locations* (the line), not for each gene (the
# band: four genes in five). For a single gene, read on.
#
# ## 3. Which genes to believe?
#
# `gene_reliability` looks at every gene without its truth: do two halves of the cells give the same pattern? does a
# regression on the landmarks agree? What these signals said of the hidden landmarks' scores is applied to all.

# %%
believe = gene_reliability(fit, seed=0)
print(believe["flag"].value_counts().to_dict())
believe.loc[
    ["mix10", "mix7", "stripe14_1", "flat1", "flat2"], ["flag", "predicted", "predicted_lower", "reason"]
].round(2)

# %%
actual = pearson_by_gene(np.asarray(sure.X, float), np.asarray(egg.truth[:, unseen].X, float))
some = believe.loc[unseen]
ax = plot_reliability(
    some["predicted"].to_numpy(),
    actual,
    lower=some["predicted_lower"].to_numpy(),
    upper=some["predicted_upper"].to_numpy(),
    genes=unseen,
    score="correlation with the truth",
)
plt.show()
rank = pd.Series(actual).corr(pd.Series(some["predicted"].to_numpy()), method="spearman")
inside = ((actual >= some["predicted_lower"]) & (actual <= some["predicted_upper"])).mean()
print(f"rank correlation {rank:.2f}; inside its 90 % interval {inside:.0%} of the genes")

# %% [markdown]
# **What to look at.** The grey bars: with 30 landmarks to learn from they are long. Use the score to *rank* genes and
# to drop the poor ones, not to quote a second digit. It is a little low for the best genes, for the same reason as
# above: it foretells a correlation with a noisy map.
#
# **Where it misleads.** It was learned on landmarks, and says nothing of kinds of genes that no landmark is of. And
# *poor* may mean that a gene has no pattern at all: that is an answer, too. Below, `unspatial` genes have none, and
# all of them are caught; with them go a few that have a pattern. On real data some pass as good that have none: look
# at the picture, on a common scale.

# %%
flags = believe["flag"].to_frame().join(egg.truth.var["class"])
pd.crosstab(flags["class"], flags["flag"])
