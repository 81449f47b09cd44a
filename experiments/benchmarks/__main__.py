"""What does it cost: time against floors and the dense formula, memory, growth, devices, the largest jobs?"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from experiments.benchmarks.measure import Row
from experiments.benchmarks.pictures import draw_all
from experiments.benchmarks.record import Record, case_key
from experiments.benchmarks.targets import markdown
from experiments.common import arguments, load_config, provenance, write_json

_BENCHMARKS = (
    *("kernel", "arithmetic", "growth", "dense", "stages"),
    *("devices", "job", "memory", "store", "largest", "mapping"),
)


def main() -> None:
    """Measure case after case, each in a process of its own; draw and sum up what is there."""
    parser = arguments("benchmarks", __doc__)
    parser.add_argument("which", nargs="*", metavar="WHICH", help=f"{', '.join(_BENCHMARKS)} (default: all)")
    parser.add_argument("--keep", action="store_true", help="measure only what the table lacks")
    parser.add_argument("--only", default="", help="only cases whose settings, as JSON, contain this text")
    options = parser.parse_args()
    unknown = set(options.which) - set(_BENCHMARKS)
    if unknown:
        parser.error(f"expected some of {', '.join(_BENCHMARKS)}; found {', '.join(sorted(unknown))}")
    out = options.out
    if options.fast and out == parser.get_default("out"):
        out = Path(tempfile.mkdtemp(prefix="benchmarks-"))  # its figures are not for the record
    config = load_config(__file__)
    record = Record(out / "benchmarks.csv")
    for name in options.which or _BENCHMARKS:
        settings = config["fast"][name] if options.fast else config[name]
        module = importlib.import_module(f"experiments.benchmarks.{name}")
        cases = [{"benchmark": name, **settled} for settled in module.cases(settings)]
        record.keep_only(name, cases)
        for case in cases:
            if options.only not in case_key(case) or (options.keep and record.has(case)):
                continue
            print(case_key(case), flush=True)
            rows = _run(case | ({"data": str(options.data)} if options.data else {}))
            record.put(case, rows)
            for row in rows:
                print(f"  {row.variant:>12}  {row.quantity}: {row.value:.4g} {row.unit}", flush=True)
        # After every benchmark: a run that is stopped leaves its pictures and versions as well.
        write_json(provenance(config["seed"]), out / "provenance.json")
        draw_all(record.table(), out)
    print(markdown(record.table()))
    print(f"written to {out}")


def _run(case: dict[str, Any]) -> list[Row]:
    command = [sys.executable, "-m", "experiments.benchmarks.worker", json.dumps(case)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"failed with exit code {done.returncode}: {case_key(case)}")
    return [Row(**row) for row in json.loads(done.stdout.splitlines()[-1])]


if __name__ == "__main__":
    main()
