"""What `test_devices.py` runs in processes of its own, for the number of devices is fixed when JAX starts.

python -m tests.on_devices RESULT.npz                  # eight devices on the CPU: 1, 2, 8 of them
python -m tests.on_devices RESULT.npz PORT PROCESS_ID  # one of two processes with one device each
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np

from perler_jax.density import log_density
from perler_jax.em import fit_em, initial_params
from perler_jax.evidence import CellEvidence
from perler_jax.held_out.cross_validation import held_out_scores
from perler_jax.held_out.folds import fit_held_out, make_folds
from perler_jax.mixture import expected_statistics
from perler_jax.noise import StudentT
from perler_jax.scale.devices import is_first_process, join_processes, request_cpu_devices, use_devices
from perler_jax.scale.spread import one_per_device, own_cells, shard_cells
from perler_jax.weights import WeightParams, distance_space, weighted_means

CELLS, LOCATIONS, LANDMARKS = 61, 23, 7  # no number of devices divides the cells


def data():
    rng = np.random.default_rng(5)
    h = rng.normal(size=(LOCATIONS, LANDMARKS))
    y = 1.4 * h[rng.integers(LOCATIONS, size=CELLS)] + 0.6 * rng.normal(size=(CELLS, LANDMARKS))
    evidence = CellEvidence(rng.normal(size=(CELLS, 2)), rng.normal(size=(LOCATIONS, 2)))
    return y - y.mean(axis=0), h - h.mean(axis=0), evidence


def results(*, every=True):
    """What is spread over devices, by the calls that a user makes on one; or without the dearest of it."""
    y, h, evidence = data()
    x, r, evidence = jnp.asarray(y), jnp.asarray(h), evidence.astype(jnp.float64)
    rich = rich_params(x, r)
    rows, present = shard_cells(y)
    options = {"accelerate": False, "learn_location_weights": True, "tolerance": 1e-9, "max_steps": 60}
    start = start_params(x, r)
    own_rows = shard_cells(y[own_cells(CELLS)], CELLS)[0]
    fitted = fit_em(own_rows, r, start, cell_weights=present, **options)
    near, far = jax.jit(distance_space)(fitted.params, x, r)
    weights = WeightParams(jnp.array([0.5, 0.1]), jnp.array([0.0, 0.7]))
    fold_options = {"n_metagenes": 4, "accelerate": False, "dtype": np.float64}
    held_out = fit_held_out(y, h, make_folds(LANDMARKS), **fold_options)
    strangers = fit_held_out(y, h, make_folds(LANDMARKS)[:3], foreign_share=0.05, **fold_options)
    found = {
        "statistics": expected_statistics(rich, x, r, evidence=evidence),
        "fitted": (fitted.params, fitted.history),
        "means": weighted_means(weights, near, far, None, x, evidence=evidence),
        "shards": (jnp.abs(rows - own_rows).max(), rows.sum(axis=0)),
        "held_out": (held_out.params, held_out.cell_loadings, held_out.n_steps),
        "scores": held_out_scores(held_out, weights, x, r),
        "strangers": (strangers.params, strangers.votes),
        "scores_by_vote": held_out_scores(strangers, weights, x, r),
    }
    if every:
        found["whole"] = fit_em(x, r, start, **options).params
        found["gradient"] = gradient(rich, x, r, evidence)
    leaves, _ = jax.tree_util.tree_flatten_with_path(found)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


@jax.jit
def start_params(x, r):
    return initial_params(x, r)


@jax.jit
def rich_params(x, r):
    """Heavy tails, cells from elsewhere, unequal locations."""
    log_pi = jnp.linspace(0.0, 1.0, LOCATIONS)
    return initial_params(x, r, log_pi, noise_family=StudentT(4.0), foreign_share=0.05)


@jax.jit
def gradient(params, x, r, evidence):
    return jax.grad(lambda at: log_density(at, x, r, evidence).sum())(params)


def layout():
    """Where the work went: rows per device, sums between devices in an E step, device of each item."""
    y, h, _ = data()
    x, r = jnp.asarray(y), jnp.asarray(h)
    rows, _ = shard_cells(y)
    program = expected_statistics.lower(start_params(x, r), x, r).compile().as_text()

    def place(item, _):
        return item, jax.lax.axis_index("cells")

    items = [np.array(index) for index in range(11)]
    placed = list(one_per_device(place, iter(items), None))
    return {
        "rows": np.array([shard.data.shape[0] for shard in rows.addressable_shards]),
        "all_reduce": np.array(program.count("all-reduce(")),
        "items": np.array(placed),
    }


def forced(path):
    request_cpu_devices(8)
    kept = {}
    for devices in (1, 2, 8):
        with use_devices(devices):
            kept |= {f"{devices}{key}": value for key, value in results().items()}
            if devices > 1:
                kept |= {f"{devices}:{key}": value for key, value in layout().items()}
    np.savez(path, **kept)


def one_of_two(path, port, process_id):
    join_processes(f"127.0.0.1:{port}", 2, process_id)
    with use_devices():
        found = results(every=False) | {f":{key}": value for key, value in layout().items()}
    if is_first_process():
        np.savez(path, **found)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    if len(sys.argv) == 2:
        forced(sys.argv[1])
    else:
        one_of_two(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
