"""What an AnnData holds beside its values: kept with the input, so that results need not forget it."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from anndata.io import read_elem, write_elem

from perler_jax.inputs.frames import in_memory
from perler_jax.inputs.labels import few

__all__ = ["Beside", "beside_of", "plain_columns", "plain_index"]

logger = logging.getLogger("perler_jax")

_KEPT = (
    "spatial",
    "spatialdata_attrs",
)  # of uns: images and scales; which element of a SpatialData each row is


@dataclass(frozen=True, eq=False, repr=False)
class Beside:
    """Annotation of the rows and columns of an input; nothing of it enters a fit.

    Attributes:
        obs: (rows, columns) of the cells or locations.
        var: (genes, columns); None where it is of no use.
        obsm: arrays (rows, ...) by name.
        uns: of the keys "spatial" and "spatialdata_attrs".
    """

    obs: pd.DataFrame
    var: pd.DataFrame | None = None
    obsm: dict[str, Any] = field(default_factory=dict)
    uns: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Beside(obs {list(self.obs.columns)}, obsm {sorted(self.obsm)}, uns {sorted(self.uns)})"

    def take(self, rows: Any) -> Beside:
        """That of the chosen rows (positions)."""
        obsm = {name: _rows(values, rows) for name, values in self.obsm.items()}
        return Beside(self.obs.iloc[rows], self.var, obsm, self.uns)

    def packed(self) -> np.ndarray:
        """``obs``, ``obsm`` and ``uns`` as bytes of an h5ad; what cannot be written is left out, and said."""
        index = self.obs.index.astype(str)
        shell = AnnData(obs=pd.DataFrame(index=index))
        left_out = []
        columns = plain_columns(self.obs.set_axis(index, axis=0))
        for part, values in (("obs", columns), ("obsm", self.obsm), ("uns", self.uns)):
            for name, each in values.items():
                if isinstance(each, pd.DataFrame):
                    each = plain_columns(each.set_axis(index, axis=0))
                if _can_be_written(each):
                    getattr(shell, part)[name] = each
                else:
                    left_out.append(f"{part}[{name!r}]")
        if left_out:
            logger.warning("not saved, as h5ad cannot hold it: %s of the reference", few(left_out))
        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as file:
            write_elem(file, "/", shell, dataset_kwargs={"compression": "gzip"})
        return np.frombuffer(buffer.getvalue(), np.uint8)

    @classmethod
    def unpacked(cls, content: np.ndarray) -> Beside:
        """What `packed` made bytes of."""
        with h5py.File(io.BytesIO(content.tobytes()), "r") as file:
            shell = read_elem(file["/"])
        return cls(shell.obs, None, dict(shell.obsm), dict(shell.uns))


def beside_of(source: Any, *, genes: Any = None) -> Beside | None:
    """What stands beside the values that are taken from a source; None where it is no AnnData.

    Args:
        source: AnnData, also one that is read lazily.
        genes: ``var`` or that of ``.raw``, where it is wanted.
    """
    if not isinstance(source, AnnData):
        return None
    held = {str(name): source.obsm[name] for name in source.obsm}
    obsm = {
        name: each
        for name, each in held.items()
        if isinstance(each, np.ndarray | pd.DataFrame) or sp.issparse(each)
    }
    uns = {name: source.uns[name] for name in _KEPT if name in source.uns}
    return Beside(in_memory(source.obs), None if genes is None else in_memory(genes), obsm, uns)


def plain_index(names: Any) -> pd.Index:
    """Names as an index of objects, which every pandas has and anndata writes as every reader knows it."""
    return pd.Index(np.asarray(names).astype(str).astype(object), dtype=object)


def plain_columns(table: pd.DataFrame) -> pd.DataFrame:
    """A table whose texts any reader of h5ad knows: as objects, or as categories where some are missing.

    What pandas calls a string of its own would be written in an encoding that older readers do not have.
    """
    table = table.copy(deep=False)
    for name in table.columns:
        column = table[name]
        if not isinstance(column.dtype, pd.CategoricalDtype) and pd.api.types.is_string_dtype(column.dtype):
            missing = bool(column.isna().any())
            table[name] = pd.Categorical(column.astype(object)) if missing else column.astype(object)
    return table


def _rows(values: Any, rows: Any) -> Any:
    return values.iloc[rows] if isinstance(values, pd.DataFrame) else values[rows]


def _can_be_written(value: Any) -> bool:
    try:
        with h5py.File(io.BytesIO(), "w") as file:
            plain = value.to_frame() if isinstance(value, pd.Series) else value
            write_elem(file, "value", dict(plain) if isinstance(plain, Mapping) else plain)
    except Exception:  # every writer of every type has errors of its own
        return False
    return True
