"""MAP against EM, Laplace and SVI standard errors against NUTS, the price of a gradient; and PSIS-LOO."""

from __future__ import annotations

import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bayes.gradient import gradient_over_em_pass
from experiments.common import arguments, data_folder, load_config, peak_rss_gb, provenance, timed, write_json
from perler_jax import PerlerFit, PerlerSettings, fit_perler, load_fly
from perler_jax.inference.bayes_arviz import import_arviz, labels_of, leave_one_out, to_arviz
from perler_jax.inference.laplace import LaplaceFit, fit_laplace
from perler_jax.inference.map_em import MapFit, fit_map_em
from perler_jax.inference.map_fit import fit_map
from perler_jax.inference.model_comparison import compare_metagenes
from perler_jax.inference.nuts import NutsFit, sample_nuts
from perler_jax.inference.priors import data_scaled_priors
from perler_jax.inference.variational import fit_svi
from perler_jax.mixture import MappingParams
from perler_jax.preprocessing import centre, log_reference
from perler_jax.settings import device_precision

NAMES = ("sensitivity", "background", "noise")


def main() -> None:
    """Run one of the two parts, print, write."""
    parser = arguments("bayes", __doc__)
    parser.add_argument("--comparison", action="store_true", help="the table of PSIS-LOO instead")
    options = parser.parse_args()
    config = load_config(__file__)
    if options.fast:
        config = _small(config)
    folder = data_folder(options.data, "drosophila")
    progress = sys.stderr.isatty()
    fly = load_fly(folder)
    settings = PerlerSettings(seed=config["seed"], n_metagenes=config["n_metagenes"], dtype="float64")
    totals = fly.cells.obs["norm_total"].to_numpy()
    # The weights of cells play no part here: given, nothing is tuned.
    fit = fit_perler(
        fly.cells, fly.reference, settings=settings, totals=totals, weights=(0.5, 0.0), progress=progress
    )
    part = _comparison if options.comparison else _posteriors
    report = part(fit, config, progress) | provenance(config["seed"], folder)
    write_json(report, options.out / ("comparison.json" if options.comparison else "bayes.json"))


def _posteriors(fit: PerlerFit, config: dict[str, Any], progress: bool) -> dict[str, Any]:
    seconds: dict[str, float] = {}
    with device_precision("float64"):
        x, r = jnp.asarray(fit.cell_metagenes), jnp.asarray(fit.reference_metagenes)
        priors = data_scaled_priors(x, r, strength=config["prior_strength"])
        with timed("map_em", seconds):
            by_em = fit_map_em(x, r, priors, tolerance=1e-13)
        with timed("lbfgs", seconds):
            lbfgs = fit_map(x, r, priors, tolerance=config["map"]["tolerance"], progress=progress)
        steps = config["map"]["adam_steps"]
        with timed("adam", seconds):
            adam = fit_map(x, r, priors, method="adam", max_steps=steps, progress=progress)
        with timed("laplace", seconds):
            laplace = fit_laplace(x, r, priors, by_em.params, progress=progress)
        nuts = sample_nuts(
            x, r, priors, by_em.params, **config["nuts"], seed=config["seed"], progress=progress
        )
        arviz = to_arviz(nuts, x, r, labels=labels_of(fit), loadings=fit.metagenes.cell_loadings)
        loo = leave_one_out(arviz)
        summary = import_arviz().summary(arviz, var_names=list(NAMES), kind="diagnostics", round_to="none")
    report: dict[str, Any] = {
        "n_metagenes": x.shape[1],
        "map": {
            name: _agreement(found, by_em, laplace) for name, found in (("lbfgs", lbfgs), ("adam", adam))
        },
        "nuts": _mixing(nuts) | {"arviz_largest_r_hat": float(summary["r_hat"].max())},
        "loo": {
            "elpd": float(loo.elpd.sum()),
            "standard_error": float(np.sqrt(len(loo.elpd)) * loo.elpd.std()),
            "p_loo": loo.effective_parameters,
        },
        "against_nuts": {"laplace": _against(laplace, nuts)},
    }
    single = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), (x, r, priors, by_em.params))
    for guide, options in config["svi"].items():
        with timed(f"svi_{guide}", seconds):
            found = fit_svi(*single, guide=guide, n_draws=4000, **options, progress=progress)
        report["against_nuts"][f"svi_{guide}"] = _against(found, nuts)
    report["gradient_over_em_pass"] = {
        dtype: gradient_over_em_pass(fit, by_em.params, dtype, config["gradient"]["repeats"])
        for dtype in ("float32", "float64")
    }
    report |= {"seconds": seconds | {"nuts": nuts.seconds}, "peak_rss_gb": peak_rss_gb()}
    _print(report)
    return report


def _flat(params: MappingParams) -> np.ndarray:
    return np.concatenate([np.asarray(getattr(params, name), np.float64) for name in NAMES])


def _agreement(found: MapFit, expected: MapFit, laplace: LaplaceFit) -> dict[str, Any]:
    """Largest difference of a parameter from EM's: relative to its size, and in standard errors."""
    difference = np.abs(_flat(found.params) - _flat(expected.params))
    relative = difference.reshape(3, -1) / np.abs(_flat(expected.params)).reshape(3, -1)
    return {
        "steps": found.n_steps,
        "largest_relative": dict(zip(NAMES, relative.max(axis=1).tolist(), strict=True)),
        "largest_in_standard_errors": float((difference / _flat(laplace.standard_errors)).max()),
        "log_posterior_below_em": expected.log_posterior - found.log_posterior,
    }


def _mixing(nuts: NutsFit) -> dict[str, Any]:
    steps = nuts.statistics["n_steps"]
    return {
        "chains": steps.shape[0],
        "draws_per_chain": steps.shape[1],
        "minutes": nuts.seconds / 60,
        "gradients_per_draw": float(steps.mean()),
        "acceptance": float(nuts.statistics["acceptance_rate"].mean()),
        "divergences": int(nuts.statistics["diverging"].sum()),
        "least_ess": float(nuts.effective_draws.min()),
        "median_ess": float(np.median(nuts.effective_draws)),
        "least_ess_per_second": float(nuts.effective_draws.min() / nuts.seconds),
        "median_ess_per_second": float(np.median(nuts.effective_draws) / nuts.seconds),
        "largest_r_hat": float(nuts.r_hat.max()),
    }


def _against(found: Any, nuts: NutsFit) -> dict[str, Any]:
    """Ratio of standard errors to NUTS's, and distance of the means in standard errors."""
    errors = _flat(nuts.standard_errors)
    ratio = _flat(found.standard_errors) / errors
    away = np.abs(_flat(found.params) - _flat(nuts.params)) / errors
    quantiles = np.quantile(ratio, [0.0, 0.05, 0.5, 0.95, 1.0])
    return {
        "standard_error_ratio": dict(
            zip(("least", "5%", "median", "95%", "most"), quantiles.tolist(), strict=True)
        ),
        "median_ratio_by_parameter": dict(
            zip(NAMES, np.median(ratio.reshape(3, -1), axis=1).tolist(), strict=True)
        ),
        "share_within_10_percent": float((np.abs(ratio - 1) < 0.1).mean()),
        "mean_away_median": float(np.median(away)),
        "mean_away_most": float(away.max()),
    }


def _comparison(fit: PerlerFit, config: dict[str, Any], progress: bool) -> dict[str, Any]:
    atlas, expression = fit.reference, fit.cells
    assert expression is not None
    y, _ = centre(np.asarray(fit.preprocessing.apply(expression.dense(fit.landmarks)), np.float64))
    columns = [list(atlas.genes).index(name) for name in fit.landmarks]
    h = np.asarray(atlas.values[:, columns], np.float64)
    h, _ = centre(h if atlas.scale == "log2" else log_reference(h))
    options = config["comparison"]
    start = time.perf_counter()
    with device_precision("float64"):
        table = compare_metagenes(
            y,
            h,
            [(reduction, n) for reduction, n in options["choices"]],
            n_draws=options["n_draws"],
            seed=config["seed"],
            progress=progress,
        )
    print(table.round(1).to_string())
    return {"table": table.to_dict("index"), "seconds": time.perf_counter() - start}


def _small(config: dict[str, Any]) -> dict[str, Any]:
    """Small enough for a test."""
    nuts = {"n_warmup": 10, "n_draws": 10, "n_chains": 2}
    svi = {name: each | {"n_steps": 20} for name, each in config["svi"].items()}
    comparison = config["comparison"] | {"n_draws": 20, "choices": [["plsc", 2], ["plsc", 4]]}
    return config | {"n_metagenes": 4, "nuts": nuts, "svi": svi, "comparison": comparison}


def _print(report: dict[str, Any]) -> None:
    for name, found in report["map"].items():
        print(f"MAP by {name}: {found['largest_in_standard_errors']:.2g} standard errors from MAP-EM at most")
    nuts = report["nuts"]
    print(
        f"NUTS: {nuts['minutes']:.1f} minutes, median ESS {nuts['median_ess']:.0f} "
        f"({nuts['median_ess_per_second']:.2f} per second), R-hat <= {nuts['largest_r_hat']:.3f}"
    )
    for name, found in report["against_nuts"].items():
        ratio = found["standard_error_ratio"]
        print(
            f"{name}: standard errors over NUTS's {ratio['median']:.3f} "
            f"({ratio['5%']:.3f} to {ratio['95%']:.3f} for 90 %)"
        )
    for dtype, found in report["gradient_over_em_pass"].items():
        print(f"gradient of the log posterior over an EM pass, {dtype}: {found['ratio']:.2f}")
    print("seconds:", ", ".join(f"{name} {value:.1f}" for name, value in report["seconds"].items()))


if __name__ == "__main__":
    main()
