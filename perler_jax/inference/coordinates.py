"""Unconstrained coordinates of a NumPyro model, in units in which every direction is about as wide.

Metagenes differ in scale by orders of magnitude. MAP, variational fits and NUTS all move in

    z,   free = centre + scale z  (or centre + L z),   sites = constrain(free)

where one step length suits every parameter.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float
from numpyro import handlers
from numpyro.infer.util import log_density

from perler_jax.errors import PerlerInputError

Model = Callable[..., Any]
Sites = dict[str, Any]

__all__ = ["SITE", "Coordinates", "in_coordinates", "log_density_at", "make_coordinates", "values_at"]

SITE = "coordinates"  # name of the one latent site of a model rewritten by `in_coordinates`


@dataclasses.dataclass(frozen=True, eq=False)
class Coordinates:
    """A linear change of the unconstrained values of all latent sites.

    Attributes:
        centre: (size,) unconstrained values at z = 0.
        scale: (size,) widths, or (size, size) a root L of their covariance.
        unravel: (size,) -> unconstrained values by site.
        transforms: site -> bijection from unconstrained to constrained values.
    """

    centre: Float[Array, " size"]
    scale: Float[Array, " size"] | Float[Array, "size size"]
    unravel: Callable[[Array], Sites]
    transforms: dict[str, Any]

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return self.centre.shape[0]

    def free(self, z: Array) -> Array:
        """Unconstrained values of one point, flat."""
        return self.centre + (self.scale * z if self.scale.ndim == 1 else self.scale @ z)

    def constrain(self, z: Array) -> Sites:
        """Site values at one point."""
        return {name: self.transforms[name](value) for name, value in self.unravel(self.free(z)).items()}

    def log_determinant(self, z: Array) -> Array:
        """Ln |d sites / d free|; the linear part is constant."""
        total = jnp.zeros((), z.dtype)
        for name, value in self.unravel(self.free(z)).items():
            transform = self.transforms[name]
            total += jnp.sum(transform.log_abs_det_jacobian(value, transform(value)))
        return total

    def at(self, scale: Array) -> Coordinates:
        """The same with another scale."""
        return dataclasses.replace(self, scale=scale)


def make_coordinates(
    model: Model, start: Sites, widths: Sites, *, key: jax.Array, arguments: tuple
) -> Coordinates:
    """Coordinates of all latent sites of a model.

    Args:
        model: NumPyro model.
        start: site values at z = 0; latent sites that are not named start at a draw from their prior.
        widths: widths of the unconstrained values by site; 1 where not named.
        key: for the sites that start at a draw.
        arguments: of the model.
    """
    seeded = handlers.seed(handlers.substitute(model, data=start), key)
    trace = handlers.trace(seeded).get_trace(*arguments)
    latent = {
        name: site for name, site in trace.items() if site["type"] == "sample" and not site["is_observed"]
    }
    discrete = [name for name, site in latent.items() if site["fn"].support.is_discrete]
    if discrete:
        raise PerlerInputError(
            f"expected a model with continuous sites, found discrete {', '.join(discrete)}: sum them out"
        )
    transforms = {name: dist.biject_to(site["fn"].support) for name, site in latent.items()}
    free = {name: transforms[name].inv(site["value"]) for name, site in latent.items()}
    centre, unravel = ravel_pytree(free)
    scale, _ = ravel_pytree(
        {name: jnp.broadcast_to(widths.get(name, 1.0), free[name].shape) for name in free}
    )
    return Coordinates(centre, scale.astype(centre.dtype), unravel, transforms)


def in_coordinates(model: Model, coordinates: Coordinates) -> Model:
    """The model with one latent site, z; its density is that of the model's, change of variables included."""

    def rewritten(*args: Any, **kwargs: Any) -> Any:
        flat = dist.ImproperUniform(dist.constraints.real_vector, (), (coordinates.size,))
        z = numpyro.sample(SITE, flat)
        numpyro.factor("change_of_variables", coordinates.log_determinant(z))
        return handlers.condition(model, data=coordinates.constrain(z))(*args, **kwargs)

    return rewritten


def log_density_at(
    model: Model,
    coordinates: Coordinates,
    z: Array,
    arguments: tuple,
    *,
    change_of_variables: bool,
    key: Array | None = None,
) -> Array:
    """Log joint density of the model at one point, in its own sites or in the coordinates.

    Args:
        model: NumPyro model.
        coordinates: of its latent sites.
        z: (size,) the point.
        arguments: of the model.
        change_of_variables: give the density of the coordinates, whose mode is another one.
        key: chooses the minibatch, where the model has one.
    """
    seeded = model if key is None else handlers.seed(model, key)
    value = log_density(seeded, arguments, {}, coordinates.constrain(z))[0]
    return value + coordinates.log_determinant(z) if change_of_variables else value


def values_at(model: Model, coordinates: Coordinates, z: Array, arguments: tuple) -> tuple[Any, Sites]:
    """What the model returns at one point, and the values of its latent sites."""
    sites = coordinates.constrain(z)
    # The key is for the choice of a minibatch, on which nothing here depends.
    return handlers.seed(handlers.substitute(model, data=sites), jax.random.key(0))(*arguments), sites
