"""Predicted patterns of chosen genes, in memory or in a file, made block by block."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from anndata import AnnData
from jaxtyping import Float, Shaped

from perler_jax.errors import PerlerInputError
from perler_jax.inputs.data import CellExpression
from perler_jax.prediction.predictor import Predictor
from perler_jax.reconstruction import fill, gene_block_size, reconstruct_blocks, zscore
from perler_jax.scale.store import stream_to_file
from perler_jax.settings import Precision, device_precision

__all__ = ["Patterns", "check_one_process"]


@dataclasses.dataclass(frozen=True, eq=False)
class Patterns:
    """What it takes to predict genes; nothing is computed before it is asked for.

    Attributes:
        predictor: what predicts them.
        expression: of the fitted cells.
        preprocess: raw block (cells, genes) -> log2 block.
        genes: (genes,) names.
        standardise: z-score each gene over locations.
        dtype: of the predictions.
    """

    predictor: Predictor
    expression: CellExpression
    preprocess: Callable[[np.ndarray], np.ndarray]
    genes: Shaped[np.ndarray, " genes"]
    standardise: bool
    dtype: Precision

    @property
    def block_size(self) -> int:
        """Genes predicted at once."""
        return gene_block_size(*self.predictor.shape, len(self.genes))

    def values(self, *, progress: bool) -> Float[np.ndarray, "locations genes"]:
        """All of them in memory."""
        values = np.empty((self.predictor.shape[1], len(self.genes)), self.dtype)
        fill(values, self._blocks(self.genes), progress=progress)
        return values

    def write(self, path: Any, shell: AnnData, *, mark: str, progress: bool) -> Path:
        """All of them in a file, resumable.

        Args:
            path: ends in .h5ad or .zarr.
            shell: annotation of the file, without values.
            mark: of the fit and the choices made: unfinished work of another is not gone on with.
            progress: show a progress bar.
        """
        size = self.block_size
        return stream_to_file(
            path, shell, self._blocks, block=size, mark=mark, dtype=self.dtype, progress=progress
        )

    def _blocks(self, genes: Shaped[np.ndarray, " some"]) -> Iterator[Float[np.ndarray, "locations block"]]:
        """Predictions of some of the genes; they are looked up before anything is computed."""
        blocks = self.expression.gene_blocks(list(genes), self.block_size, sparse=True)
        return self._predicted(blocks)

    def _predicted(self, blocks: Any) -> Iterator[Float[np.ndarray, "locations block"]]:
        with device_precision(self.dtype):
            for _, result in reconstruct_blocks(
                self.predictor, blocks, preprocess=self.preprocess, block_size=self.block_size
            ):
                yield zscore(result) if self.standardise else result


def check_one_process() -> None:
    """Refuse to write one file from several processes."""
    if jax.process_count() > 1:
        raise PerlerInputError(
            f"expected one process to write a file, found {jax.process_count()}: save the fit, and "
            "reconstruct from it in one process"
        )
