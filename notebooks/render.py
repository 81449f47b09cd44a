"""Run notebooks and write them with their outputs beside the scripts: `make notebooks`."""

from __future__ import annotations

import sys
from pathlib import Path

import jupytext
from nbconvert.preprocessors import ExecutePreprocessor

HERE = Path(__file__).parent


def main(names: list[str]) -> None:
    """Render the scripts that begin with these names; all if none is given."""
    for script in sorted(HERE.glob("[0-9]*.py")):
        if names and not any(script.name.startswith(name) for name in names):
            continue
        notebook = jupytext.read(script)
        ExecutePreprocessor(timeout=600).preprocess(notebook, {"metadata": {"path": str(HERE)}})
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)  # when each cell ran: a difference in every rendering
            if cell.cell_type == "code":  # progress and warnings name paths of the machine it ran on
                cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
        jupytext.write(notebook, script.with_suffix(".ipynb"))
        print(script.with_suffix(".ipynb").name)


if __name__ == "__main__":
    main(sys.argv[1:])
