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
# # Comparing methods
#
# *Is it better than what I would have done anyway, and would I notice if it were not?*
#
# `experiments/compare` holds every method to one protocol, on real data, peers in environments of their own. Here is
# the same protocol in small, by function, so that you can hold an idea of your own against it. It needs a checkout of
# the repository, not only the installed package.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from experiments.compare.contract import Prediction
from experiments.compare.methods import baselines, distmap, ours, spage
from experiments.compare.problems import make_problem
from experiments.compare.scoring import bootstrap, choose
from perler_jax.scores.metrics import pearson_by_gene

# %% [markdown]
# ## A problem
#
# Cells, a map, and genes cut into folds. The task of a fold is all that a method gets to see: a map from which the
# fold's genes are *gone*. A method cannot leak what it does not have. The cells are simulated, so their places are
# known as well.

# %%
problem = make_problem("simulated", None, {"seed": 0, "folds": 5})
task = problem.task(0)
print(len(task.cells.log), "cells;", task.reference.linear.shape, "locations x landmarks left in the map")
print("to predict:", ", ".join(task.genes))

# %% [markdown]
# ## A method
#
# Any function `predict(cells, reference, genes, knob)` that returns `Prediction(values)`, locations x genes. If it
# places cells, it also gives a `mapping`, a function that returns cells x locations. This one of our own takes, at
# each location, the cells whose landmarks *correlate* best with it:


# %%
def best_correlated(cells, reference, genes, n_cells):
    """Mean of the cells that correlate best with a location over z-scored landmarks."""
    both = np.corrcoef(baselines.standard(reference.log), baselines.standard(cells.of(reference.genes)))
    near = both[: len(reference.log), len(reference.log) :]  # locations x cells
    chosen = np.argsort(-near, axis=1)[:, :n_cells]

    def mapping():
        sharp = np.exp(20 * near.T)
        return sharp / sharp.sum(axis=1, keepdims=True)

    return Prediction(cells.of(genes)[chosen].mean(axis=1), mapping)


# %% [markdown]
# ## Tuning, the same for all
#
# Most methods have a knob, and an untuned one says little about the method. Each knob takes a few values; the value
# of a fold is the best one on the genes of the *other* folds. Never tune your favourite and leave the others at their
# defaults: that alone can turn a ranking round.

# %%
methods = {
    "perler_jax": (ours.predict, [None], {}),  # it tunes itself, on the landmarks that it is given
    "SpaGE (own)": (spage.predict, [5, 10, 20, 24], {}),
    "ridge regression": (baselines.ridge, [0.01, 0.1, 1.0, 10.0], {}),
    "nearest neighbours": (baselines.nearest_neighbours, [3, 10, 30, 100], {}),
    "best correlated (mine)": (best_correlated, [3, 10, 30, 100], {}),
    "DistMap (own)": (distmap.predict, [(0.2, 0.0), (0.5, 0.0), (0.8, 0.0), (0.9, 0.0)], {}),
    "gene mean": (baselines.gene_mean, [None], {}),
}


def run(predict, knobs, options):
    """Correlation of every gene, each fold with the knob that the other folds chose, and errors of places."""
    values = np.full((len(knobs), *problem.truth.shape), np.nan)
    places = np.full((len(knobs), len(problem.folds), len(problem.true_positions)), np.nan)
    for number, fold in enumerate(problem.folds):
        task = problem.task(number)
        for at, knob in enumerate(knobs):
            found = predict(task.cells, task.reference, task.genes, knob, **options)
            values[at][:, fold] = found.values
            if found.mapping is not None:
                top = problem.coordinates[found.mapping().argmax(axis=1)]
                places[at, number] = np.linalg.norm(top - problem.true_positions, axis=1)
    # A constant prediction has no correlation: it counts as zero.
    scores = np.nan_to_num(np.stack([pearson_by_gene(each, problem.truth) for each in values]))
    chosen = choose(scores, problem.folds)
    by_gene = np.concatenate([scores[at, fold] for at, fold in zip(chosen, problem.folds, strict=True)])
    return by_gene, places[chosen, np.arange(len(chosen))].mean(axis=0), [knobs[at] for at in chosen]


found = {name: run(*method) for name, method in methods.items()}

# %% [markdown]
# ## The table
#
# aCC is the mean correlation over held-out genes. Two intervals, both by drawing genes anew: of each method's own
# mean, and of its difference from `perler_jax`, *paired by gene*. The last column is the knobs that were chosen: one
# at the end of its list asks for a longer list.

# %%
base = found["perler_jax"][0]
rows = []
for name, (scores, off, knobs) in found.items():
    low, high = bootstrap(scores, 10000, 0)
    less, more = bootstrap(scores - base, 10000, 0)
    rows.append(
        {
            "method": name,
            "aCC": f"{scores.mean():.3f} ({low:.3f}-{high:.3f})",
            "minus perler_jax": f"{(scores - base).mean():+.3f} ({less:+.3f} to {more:+.3f})",
            "better at": f"{int((scores > base).sum())} of {len(base)} genes" if scores is not base else "",
            "cells off by, um": "" if np.isnan(off).any() else f"{np.median(off):.0f}",
            "knobs": ", ".join(dict.fromkeys(map(str, knobs))),
        }
    )
pd.DataFrame(rows).set_index("method").sort_values("aCC", ascending=False)

# %%
names = sorted(found, key=lambda name: found[name][0].mean())
figure, axes = plt.subplots(1, 2, figsize=(10.5, 3.2), layout="constrained", sharey=True, width_ratios=(3, 2))
for at, name in enumerate(names):
    scores = found[name][0]
    colour = "#D1495B" if name == "perler_jax" else "#35608D"
    axes[0].plot(scores, np.full(len(scores), at - 0.2), "|", color=colour, alpha=0.6, ms=7)
    axes[0].plot(bootstrap(scores, 10000, 0), [at + 0.12] * 2, color=colour, lw=2)
    axes[0].plot(scores.mean(), at + 0.12, "o", color=colour, ms=5)
    if name not in ("perler_jax", "gene mean"):
        gain = scores - base
        axes[1].plot(bootstrap(gain, 10000, 0), [at, at], color=colour, lw=2)
        axes[1].plot(gain.mean(), at, "o", color=colour, ms=5)
axes[0].set_yticks(range(len(names)), names)
axes[0].set(xlabel="correlation at held-out genes: mean, 95 % interval; each gene (|)")
axes[1].set(xlabel="paired difference from perler_jax")
for ax in axes:
    ax.axvline(0, color="0.7", lw=0.8, zorder=0)
    ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# **What to look at.** The right panel. Intervals on the left overlap nearly always, since genes differ much more than
# methods do; the paired difference takes the genes out. If its interval holds zero, do not say "better": on these
# cells a ridge regression, which knows nothing of space, does as well as we do. It cannot say where a cell is from,
# which is another reason to choose a method. Then the marks: a method can win the mean and lose your gene.
#
# **Where it misleads.**
#
# - *The simulator is ours.* Its world has the shape that this package's model assumes, scale and shift and noise, and
#   this table is no evidence for it; the tables on real data in `experiments/compare` are.
# - *Few genes.* Thirty genes tell a difference of 0.05, hardly one of 0.01.
# - *Correlation forgives any scale.* A method that predicts all patterns too flat scores as well. If levels matter to
#   you, look at other scores too (`perler_jax.scores.metrics`).
# - *The mean gene.* A regression does well at what is common to all genes; look at the narrow ones.
#
# On real data, with your method in a file of its own:
#
#     python -m experiments.compare --problems fly --methods ours ridge --method mine=path/to/file.py --out results
