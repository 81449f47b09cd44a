"""The result of the whole method: an immutable fit from which everything else is derived on request."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Float, Int, Shaped

from perler_jax.annotation import result_shell, units_of
from perler_jax.density import cell_votes, foreign_cells, responsibilities
from perler_jax.em_loop import EMResult
from perler_jax.evidence import CellEvidence
from perler_jax.fitted_predictor import LevelledMapping, choice_of_fit, predictor_of_fit
from perler_jax.gene_patterns import Patterns
from perler_jax.given import GivenCells, same_cells
from perler_jax.held_out.folds import HeldOutFits
from perler_jax.held_out.tuning import Tuning
from perler_jax.inputs.data import CellExpression, SpatialReference
from perler_jax.inputs.labels import name_positions, positions
from perler_jax.later import later
from perler_jax.metagenes import MetageneMap
from perler_jax.prediction.choice import ExpertMixture
from perler_jax.prediction.mixed_weights import MixedWeights
from perler_jax.preprocessing import Preprocessing
from perler_jax.settings import PerlerSettings, device_precision
from perler_jax.weights import Covariance, WeightParams, distance_space

__all__ = ["PerlerFit"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class PerlerFit:
    """A tuned fit.

    Attributes:
        settings: the choices made.
        cells: labelled expression; None in a fit that was loaded without it.
        reference: labelled reference map.
        cell_names: (cells,) names, in the order of ``cell_metagenes``.
        landmarks: (landmarks,) names in use.
        preprocessing: what was done to the cells.
        metagenes: linear maps to metagenes.
        em: the fitted mapping with its history.
        cell_metagenes: (cells, metagenes) x.
        reference_metagenes: (locations, metagenes) r.
        weights: alpha and beta of the paper's weighted mean, which is what predicts where no experts do.
        scores: one row per landmark: ``fold``; ``held_out``, predicted by a fit that never saw the landmark;
            ``nested``, the same with alpha and beta, or shares, chosen without the landmark's term (the one
            to report); ``nested_paper``, the same of the plain weighted mean; ``reconstruction``, predicted
            by the fit that it is in; ``alpha`` and ``beta`` of the plain nested score.
        held_out: the held-out fits; None if the weights were given.
        tuning: the search; None if the weights were given.
        seconds: wall time of each stage.
        covariance: of landmarks, where the user gave one for the distance.
        evidence: what else is known of where each cell is from, where it was given.
        given: how the cells were read; expression that is given again is compared with it.
        mixture: experts with their shares; None: the plain weighted mean predicts.
        levelled: the mapping fitted without levels, where an expert uses it.
        levelled_held_out: the same, once per fold.
        neighbours: (cells, neighbours) of each cell in expression, where an expert uses them.
    """

    settings: PerlerSettings
    cells: CellExpression | None
    reference: SpatialReference
    cell_names: Shaped[np.ndarray, " cells"]
    landmarks: Shaped[np.ndarray, " landmarks"]
    preprocessing: Preprocessing
    metagenes: MetageneMap
    em: EMResult
    cell_metagenes: Float[np.ndarray, "cells metagenes"]
    reference_metagenes: Float[np.ndarray, "locations metagenes"]
    weights: WeightParams
    scores: pd.DataFrame
    held_out: HeldOutFits | None
    tuning: Tuning | None
    seconds: dict[str, float]
    covariance: Float[np.ndarray, "landmarks landmarks"] | None = None
    evidence: CellEvidence | None = None
    given: GivenCells | None = None
    mixture: ExpertMixture | None = None
    levelled: LevelledMapping | None = None
    levelled_held_out: HeldOutFits | None = None
    neighbours: Int[np.ndarray, "cells neighbours"] | None = None

    def __repr__(self) -> str:
        scored = "" if self.tuning is None else f", nested score {self.scores['nested'].mean():.3f}"
        return (
            f"PerlerFit({len(self.cell_names)} cells on {len(self.reference.locations)} locations by "
            f"{len(self.landmarks)} landmarks, {choice_of_fit(self)!r}{scored})"
        )

    @property
    def predictor(self) -> pd.DataFrame:
        """What predicts: one row for each expert and each polish that has a share, the largest first.

        Columns: ``kind`` ("expert" or "polish") and ``share``; the shares of a kind sum to one.
        """
        return choice_of_fit(self).table

    def describe_predictor(self) -> str:
        """The same in one line, shares of half a hundredth or more.

        Returns:
            E.g. "70% regression (ridge 2) + weighted mean (alpha 0, beta 3.2; levels off); ...".
        """
        return repr(choice_of_fit(self))

    @property
    def loadings(self) -> pd.DataFrame:
        """(landmarks, metagenes) weight of each landmark in each metagene of the cells."""
        return pd.DataFrame(
            self.metagenes.cell_loadings, index=self.landmarks, columns=self._metagene_names()
        )

    @property
    def parameters(self) -> pd.DataFrame:
        """(metagenes, 3) sensitivity, background and noise of each metagene."""
        params = self.em.params
        names = ("sensitivity", "background", "noise")
        arrays = {name: np.asarray(getattr(params, name)) for name in names}
        return pd.DataFrame(arrays, index=self._metagene_names())

    def reconstruct(
        self,
        genes: Sequence[str] | None = None,
        *,
        standardise: bool = False,
        cells: Any = None,
        progress: bool = False,
    ) -> AnnData:
        """Spatial expression of genes at every location, by the experts of `predictor`.

        Args:
            genes: names; None is every gene of the cells.
            standardise: z-score each gene over locations (what the released program returns).
            cells: expression of the fitted cells, for a fit that was loaded without it.
            progress: show a progress bar.

        Returns:
            AnnData (locations, genes). X: log2(1 + x) of the normalised cells, or z-scores.
            ``obsm["spatial"]``: coordinates. ``var``: ``is_landmark`` and the scores of landmarks.
            ``uns["perler"]``: parameters, settings, preprocessing and versions.

        Raises:
            PerlerInputError: unknown genes, or no expression to average.
        """
        patterns = self._patterns(genes, standardise, cells)
        return self._annotate(patterns.values(progress=progress), patterns)

    def expression(self, cells: Any = None) -> CellExpression:
        """Expression of the fitted cells; ``cells`` gives it to a fit that was loaded without.

        Args:
            cells: what was given to `fit_perler` as cells, in any order; None: what the fit holds.

        Returns:
            (cells, genes) as they were read: counts where counts were given.

        Raises:
            PerlerInputError: other cells, genes or values than were fitted, or none at all.
        """
        fitted = (self.cell_names, self.preprocessing, self.given)
        return self.cells if cells is None and self.cells is not None else same_cells(cells, *fitted)

    def posterior(self, cells: Any = None) -> pd.DataFrame:
        """Probability that each chosen cell came from each location (Eq. 11), dense.

        Args:
            cells: names, positions or a mask; None is every cell, and then cells x locations numbers.

        Returns:
            (cells, locations); rows sum to one.
        """
        rows = np.arange(len(self.cell_names)) if cells is None else positions(cells, self.cell_names, "cell")
        with device_precision(self.settings.dtype):
            gamma = responsibilities(
                self.em.params,
                jnp.asarray(self.cell_metagenes[rows]),
                jnp.asarray(self.reference_metagenes),
                self.evidence_on_device(rows),
            )
        return pd.DataFrame(np.asarray(gamma), index=self.cell_names[rows], columns=self.reference.locations)

    def distance_space(self) -> tuple[jax.Array, jax.Array]:
        """Cells and locations in coordinates whose Euclidean distance is the Mahalanobis distance (Eq. 23).

        Returns:
            (cells, metagenes) and (locations, metagenes), without unit: one is a standard deviation of the
            noise, or of what ``covariance`` of the settings or of `fit_perler` says.
        """
        with device_precision(self.settings.dtype):
            return distance_space(self.em.params, *self._sides(), self._covariance())

    def cell_weights(self) -> MixedWeights:
        """How much each cell counts at each location in the paper's weighted mean (Eq. 22)."""
        with device_precision(self.settings.dtype):
            known: dict[str, Any] = {"evidence": self.evidence_on_device(), "votes": self.votes()}
            log_pi = self.em.params.log_location_weights
            return MixedWeights.of_point(self.weights, *self.distance_space(), log_pi, **known)

    def evidence_on_device(self, rows: Any = slice(None)) -> CellEvidence | None:
        """What else is known of where cells are from, in the precision of the fit.

        Args:
            rows: numbers, a slice or a mask of the cells; all by default.

        Returns:
            Of these cells and of all locations; None where none was given.
        """
        if self.evidence is None:
            return None
        some = CellEvidence(np.asarray(self.evidence.of_cells)[rows], np.asarray(self.evidence.of_locations))
        return some.astype(self.settings.dtype)

    def votes(self) -> jax.Array | None:
        """How much each cell counts in the weighted means, wherever it is from.

        Returns:
            (cells,) from 0 to 1, the probability that it is no cell from elsewhere; None: all count alike.
        """
        with device_precision(self.settings.dtype):
            return cell_votes(self.em.params, *self._sides(), self.evidence_on_device())

    @property
    def foreign(self) -> pd.Series:
        """(cells,) probability that a cell is from none of the locations; zero without such a component."""
        with device_precision(self.settings.dtype):
            found = foreign_cells(self.em.params, *self._sides(), self.evidence_on_device())
        return pd.Series(np.asarray(found), index=self.cell_names, name="foreign")

    reconstruct_to = later("files:reconstruct_to")
    save = later("files:save_fit")
    provenance = later("provenance:provenance_of")
    transfer = later("labelling.transfer:transfer")
    mapping = later("trust.mapping:mapping")
    place = later("new_cells:place")
    report = later("app.report:report")

    def _sides(self) -> tuple[jax.Array, jax.Array]:
        return jnp.asarray(self.cell_metagenes), jnp.asarray(self.reference_metagenes)

    def _covariance(self) -> Covariance:
        if self.covariance is None:
            return self.settings.covariance
        loadings = self.metagenes.cell_loadings
        return jnp.asarray(loadings.T @ self.covariance @ loadings, self.settings.dtype)

    def _metagene_names(self) -> list[str]:
        return [f"metagene {i + 1}" for i in range(self.cell_metagenes.shape[1])]

    def _patterns(self, genes: Sequence[str] | None, standardise: bool, cells: Any) -> Patterns:
        expression = self.expression(cells)
        known = expression.genes
        names = known if genes is None else known[name_positions(genes, known, "gene")]
        with device_precision(self.settings.dtype):
            predictor = predictor_of_fit(self, expression)
        how = (self.preprocessing.apply, names, standardise, self.settings.dtype)
        return Patterns(predictor, expression, *how)

    def _annotate(self, values: np.ndarray | None, patterns: Patterns) -> AnnData:
        about = {**self.provenance(), "units": units_of(patterns.standardise, self.preprocessing.scale)}
        known = (self.landmarks, self.scores, about, patterns.expression)
        return result_shell(self.reference, patterns.genes, *known, values)
