"""The whole method on the fly embryo, timed and scored; then the presets of paper and released program."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import jax.numpy as jnp

from experiments.benchmarks.floor import kernel_over_floor
from experiments.common import arguments, data_folder, load_config, peak_rss_gb, provenance, timed, write_json
from experiments.fly.pictures import draw_held_out, draw_patterns, draw_profiles, stripe_counts
from perler_jax import PerlerFit, PerlerSettings, fit_perler, load_fly
from perler_jax.datasets import FlyEmbryo


def main() -> None:
    """Run, print, write."""
    parser = arguments("fly", __doc__)
    parser.add_argument("--keep-released", action="store_true", help="keep the last run's released part")
    options = parser.parse_args()
    config = load_config(__file__)
    folder = data_folder(options.data, "drosophila")
    progress = sys.stderr.isatty()

    seconds: dict[str, float] = {}
    with timed("loading", seconds):
        fly = load_fly(folder)
    start = time.perf_counter(), time.process_time()
    fit = _fit(fly, PerlerSettings(seed=config["seed"]), None, progress)
    seconds |= fit.seconds
    with timed("all_genes", seconds):
        result = fit.reconstruct(progress=progress)
    seconds["total"] = time.perf_counter() - start[0]
    cpu_seconds = time.process_time() - start[1]
    peak = peak_rss_gb()  # before anything else runs in this process
    with timed("total_compiled", seconds):  # as the command line has it from its second run on
        _fit(fly, PerlerSettings(seed=config["seed"]), None, progress).reconstruct(progress=progress)

    axis, stripes = stripe_counts(result, fly.reference, config)
    kernel = kernel_over_floor(
        fit.em.params,
        jnp.asarray(fit.cell_metagenes),
        jnp.asarray(fit.reference_metagenes),
        config["kernel_repeats"],
    )
    report: dict[str, Any] = {
        "nested_loo_acc": _mean(fit, "nested"),
        "nested_paper_acc": _mean(fit, "nested_paper"),
        "predictor": fit.describe_predictor(),
        "loo_acc": _mean(fit, "held_out"),
        "reconstruction_acc": _mean(fit, "reconstruction"),
        "alpha": float(fit.weights.alpha[0]),
        "beta": float(fit.weights.beta[0]),
        "objective": fit.tuning.objective if fit.tuning else None,
        "em_steps": int(fit.em.n_steps),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_rss_gb": peak,
        "kernel_over_floor": kernel["ratio"],
        "kernel": kernel,
        "stripes": stripes,
        "genes": result.n_vars,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    draw_patterns(result, fit, config["striped"], options.out / "patterns.png")
    shown = [gene for gene in config["held_out_shown"] if gene in fit.landmarks]
    draw_held_out(result, fit, shown, config["predicted_shown"], options.out / "held_out.png")
    draw_profiles(result, fly.reference, axis, config, options.out / "profiles.png")
    fit.scores.to_csv(options.out / "scores.csv", float_format="%.5f")
    path = options.out / "fly.json"
    report["paper"] = _preset(_fit(fly, PerlerSettings.paper(), None, progress))
    if options.keep_released:
        report["released"] = json.loads(path.read_text(encoding="utf-8"))["released"]
    elif not options.fast:
        report["released"] = _released(fly, config, progress) | {"made_with": provenance(config["seed"])}
    report |= provenance(config["seed"], folder)
    write_json(report, path)
    _print(report)


def _released(fly: FlyEmbryo, config: dict[str, Any], progress: bool) -> dict[str, Any]:
    """The released program's choices, tuned by its own grid; its own weights beside."""
    settings = PerlerSettings.released()
    own = _fit(fly, settings, None, progress)
    given = _fit(fly, settings, tuple(config["released_weights"]), progress)
    return _preset(own) | {"reconstruction_acc_at_its_weights": _mean(given, "reconstruction")}


def _preset(fit: PerlerFit) -> dict[str, Any]:
    """Scores, tuned weights and times of a preset."""
    return {
        "loo_acc": _mean(fit, "held_out"),
        "nested_loo_acc": _mean(fit, "nested"),
        "reconstruction_acc": _mean(fit, "reconstruction"),
        "alpha": float(fit.weights.alpha[0]),
        "beta": float(fit.weights.beta[0]),
        "objective": fit.tuning.objective if fit.tuning else None,
        "seconds": fit.seconds,
    }


def _fit(
    fly: FlyEmbryo, settings: PerlerSettings, weights: tuple[float, ...] | None, progress: bool
) -> PerlerFit:
    return fit_perler(
        fly.cells,
        fly.reference,
        settings=settings,
        totals=fly.cells.obs["norm_total"].to_numpy(),
        weights=None if weights is None else (weights[0], weights[1]),
        progress=progress,
    )


def _mean(fit: PerlerFit, column: str) -> float:
    return float(fit.scores[column].mean())


def _print(report: dict[str, Any]) -> None:
    print(f"nested LOO aCC {report['nested_loo_acc']:.4f}  (LOO {report['loo_acc']:.4f}, ", end="")
    print(f"reconstruction {report['reconstruction_acc']:.4f})")
    print(f"paper: nested {report['paper']['nested_loo_acc']:.4f}; default: {report['predictor']}")
    if "released" in report:
        released = report["released"]
        print(f"released: LOO {released['loo_acc']:.4f}, reconstruction {released['reconstruction_acc']:.4f}")
    stages = ", ".join(f"{name} {value:.1f}" for name, value in report["seconds"].items())
    print(f"seconds: {stages} (CPU {report['cpu_seconds']:.1f}); peak memory {report['peak_rss_gb']:.2f} GB")
    print(f"one EM pass over its floor: {report['kernel_over_floor']:.2f}")
    for gene, row in report["stripes"].items():
        print(
            f"  {gene:>5} stripes at prominence {row['reconstructed']}  in situ {row.get('reference', '-')}"
        )


if __name__ == "__main__":
    main()
