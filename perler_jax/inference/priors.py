"""Priors on the mapping: conjugate ones, which keep the M step closed, and any others.

    a_i ~ N(mean, sd^2)    b_i ~ N(mean, sd^2)    sigma_i^2 ~ InverseGamma(shape, scale)    pi ~ Dirichlet

act on the M step as pseudo-statistics (`map_em`): cells never seen, on the line that the prior believes in.
`MappingPriors` is the general form, any NumPyro distribution, for `model.mapping_model`. A prior that is not
given is flat in the parameter itself (a, b, sigma): the mode is then the maximum of the likelihood.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float
from numpyro.distributions import constraints
from numpyro.distributions.transforms import PowerTransform

from perler_jax._typing import pytree
from perler_jax.errors import PerlerInputError
from perler_jax.mixture import MappingParams

Numbers: TypeAlias = Any  # a number, or one per metagene (or location)
Pair: TypeAlias = Any  # two of these, or None
MaybePrior: TypeAlias = Any  # a SitePrior or None; what a user may give is checked by `site_priors`
SitePrior: TypeAlias = dist.Distribution | Callable[[], Array]

__all__ = [
    "ConjugatePriors",
    "MappingPriors",
    "SitePrior",
    "check_distributions",
    "data_scaled_priors",
    "log_prior",
    "site_priors",
]


@dataclasses.dataclass(frozen=True, eq=False)
class MappingPriors:
    """Any prior for each site of `model.mapping_model`.

    Attributes:
        sensitivity: a NumPyro distribution of a (one for all metagenes, or over (metagenes,)); or a function
            without arguments that makes sites of its own and returns a, for hierarchies. None is flat.
        background: the same of b.
        noise: the same of sigma (not its square), positive.
        location_weights: a distribution of pi on the simplex of (locations,), or a function that returns pi;
            None keeps pi fixed.
    """

    sensitivity: MaybePrior = None
    background: MaybePrior = None
    noise: MaybePrior = None
    location_weights: MaybePrior = None


@pytree
class ConjugatePriors:
    """Priors that keep the M step of EM in closed form. Each is a number or one per metagene.

    Attributes:
        sensitivity: (mean, sd > 0) of the normal prior on a; None is flat.
        background: (mean, sd > 0) of the normal prior on b; None is flat.
        noise_variance: (shape > 0, scale > 0) of the inverse-gamma prior on sigma^2: as 2 shape cells with a
            mean square residual of scale / shape. None is flat in sigma.
        location_concentration: of the Dirichlet prior on pi, a number or one per location; 1 is flat. None
            keeps pi as it is given.

    Raises:
        PerlerInputError: where a prior is improper (a strength that is not positive and finite).
    """

    sensitivity: Pair = None
    background: Pair = None
    noise_variance: Pair = None
    location_concentration: Numbers = None

    def __post_init__(self) -> None:
        for name, what in (("sensitivity", "sd"), ("background", "sd"), ("noise_variance", "scale")):
            pair = getattr(self, name)
            if pair is None:
                continue
            if not isinstance(pair, tuple) or len(pair) != 2:
                raise PerlerInputError(f"expected {name} as a pair of numbers, found {pair!r}")
            _check_positive(name, what, pair[1])
            if name == "noise_variance":
                _check_positive(name, "shape", pair[0])
            elif _is_concrete(pair[0]) and not np.isfinite(np.asarray(pair[0])).all():
                raise PerlerInputError(f"expected a finite mean of the {name} prior, found {pair[0]}")
        if self.location_concentration is not None:
            _check_positive("location_weights", "concentration", self.location_concentration)

    def distributions(self, n_metagenes: int, n_locations: int, dtype: Any = None) -> MappingPriors:
        """The same priors as NumPyro distributions.

        Args:
            n_metagenes: in the data.
            n_locations: in the data.
            dtype: of the values; None is that of JAX.

        Returns:
            Priors that NumPyro can sample from.

        Raises:
            PerlerInputError: values that are neither one number nor one per metagene or location.
        """

        def spread(values: Numbers, n: int, name: str) -> Array:
            values = jnp.asarray(values, dtype)
            if values.shape not in ((), (n,)):
                raise PerlerInputError(
                    f"expected the {name} prior as a number or {n} of them, found shape {values.shape}"
                )
            return jnp.broadcast_to(values, (n,))

        def normal(name: str) -> dist.Distribution | None:
            pair = getattr(self, name)
            return None if pair is None else dist.Normal(*(spread(each, n_metagenes, name) for each in pair))

        noise, weights = None, None
        if self.noise_variance is not None:
            pair = (spread(each, n_metagenes, "noise_variance") for each in self.noise_variance)
            noise = dist.TransformedDistribution(dist.InverseGamma(*pair), PowerTransform(0.5))
        if self.location_concentration is not None:
            weights = dist.Dirichlet(spread(self.location_concentration, n_locations, "location_weights"))
        return MappingPriors(normal("sensitivity"), normal("background"), noise, weights)


def _is_concrete(values: Any) -> bool:
    return not isinstance(values, jax.core.Tracer)


def _check_positive(name: str, what: str, values: Numbers) -> None:
    if not _is_concrete(values):
        return
    values = np.asarray(values)
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise PerlerInputError(
            f"expected a proper {name} prior with a finite {what} > 0, found {values.min():g}: give None "
            "for a flat prior"
        )


def data_scaled_priors(
    cells: Float[Array, "cells metagenes"],
    reference: Float[Array, "locations metagenes"],
    *,
    strength: float = 1.0,
) -> ConjugatePriors:
    """Weak proper priors on the scale of the data, as the start of EM is (Methods, after Eq. 20).

    Args:
        cells: x, metagenes of the cells.
        reference: r, metagenes of the locations.
        strength: worth of the prior in cells, about; a and b may be ``1 / sqrt(strength)`` times as wide as
            the data suggest.

    Returns:
        Priors on sensitivity, background and noise, in the units of the metagenes.

    Raises:
        PerlerInputError: a strength that is not positive.
    """
    if not (np.isfinite(strength) and strength > 0):
        raise PerlerInputError(f"expected a strength > 0 of the priors, found {strength}")
    spread, mapped = cells.std(axis=0), reference.std(axis=0)
    spread = jnp.where(spread > 0, spread, 1.0)
    ratio = spread / jnp.where(mapped > 0, mapped, 1.0)
    width = 1.0 / np.sqrt(strength)
    return ConjugatePriors(
        sensitivity=(ratio, width * ratio),
        background=(cells.mean(axis=0) - ratio * reference.mean(axis=0), width * spread),
        noise_variance=(0.5 * strength, 0.25 * strength * spread**2),
    )


def site_priors(
    priors: MappingPriors | ConjugatePriors | None, n_metagenes: int, n_locations: int, dtype: Any = None
) -> MappingPriors:
    """Priors in the one form that the model takes: a distribution over the whole vector, or a function.

    Raises:
        PerlerInputError: on a prior of another shape, or that is no prior.
    """
    if priors is None:
        priors = MappingPriors()
    if isinstance(priors, ConjugatePriors):
        priors = priors.distributions(n_metagenes, n_locations, dtype)
    flat = {"sensitivity": constraints.real, "background": constraints.real, "noise": constraints.positive}
    found: dict[str, SitePrior] = {}
    for name, support in flat.items():
        prior = getattr(priors, name)
        if prior is None:
            prior = dist.ImproperUniform(support, (), (n_metagenes,))
        found[name] = _over_vector(prior, name, n_metagenes)
    if priors.location_weights is not None:
        found["location_weights"] = _over_vector(priors.location_weights, "location_weights", n_locations)
    return MappingPriors(**found)


def _over_vector(prior: Any, name: str, n: int) -> SitePrior:
    if not isinstance(prior, dist.Distribution):
        if callable(prior):
            return prior
        raise PerlerInputError(
            f"expected the {name} prior as a NumPyro distribution or a function, found {type(prior).__name__}"
        )
    shape = prior.batch_shape + prior.event_shape
    if shape == () and name != "location_weights":
        return prior.expand([n]).to_event(1)
    if shape != (n,):
        raise PerlerInputError(f"expected the {name} prior over ({n},), found {shape}")
    return prior if prior.event_shape else prior.to_event(1)


def check_distributions(priors: MappingPriors) -> None:
    """No prior is a function.

    Raises:
        PerlerInputError: if one is.
    """
    for name, prior in vars(priors).items():
        if prior is not None and not isinstance(prior, dist.Distribution):
            raise PerlerInputError(
                f"expected the {name} prior as a distribution, found a function: fit it by MAP, SVI or NUTS"
            )


def log_prior(params: MappingParams, priors: MappingPriors) -> Array:
    """Log density of the priors, up to a constant for flat ones, in a, b, sigma (and pi).

    Args:
        params: where.
        priors: from `site_priors`; distributions only.

    Raises:
        PerlerInputError: on priors that are functions: only the whole model knows their density.
    """
    check_distributions(priors)
    total = jnp.zeros((), params.noise.dtype)
    for name in ("sensitivity", "background", "noise", "location_weights"):
        prior = getattr(priors, name)
        if prior is None or isinstance(prior, dist.ImproperUniform):
            continue
        if name == "location_weights":
            assert params.log_location_weights is not None
            total += prior.log_prob(jax.nn.softmax(params.log_location_weights))
        else:
            total += prior.log_prob(getattr(params, name))
    return total
