"""Compilers that give wrong numbers are named before anyone trusts them."""

import warnings
from importlib.metadata import requires

import pytest

from perler_jax.compiler_faults import warn_of_compiler_faults
from perler_jax.errors import PerlerWarning


@pytest.mark.parametrize("release", ["0.10.2", "0.11.0"])
def test_a_faulty_release_is_named_with_a_remedy(release):
    with pytest.warns(PerlerWarning, match=f"found {release}.*pip install.*XLA_FLAGS"):
        warn_of_compiler_faults(release, "--xla_force_host_platform_device_count=2")


@pytest.mark.parametrize(
    ("release", "flags"),
    [
        ("0.10.1", ""),
        ("0.11.1", ""),
        ("0.10.2", "--xla_cpu_experimental_ynn_fusion_type= --xla_cpu_multi_thread_eigen=true"),
    ],
)
def test_others_and_a_switched_off_fault_are_silent(release, flags):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_compiler_faults(release, flags)


def test_the_requirements_exclude_them():
    line = next(each for each in requires("perler_jax") if each.startswith("jax!") or each.startswith("jax>"))
    assert "!=0.10.2" in line
    assert "!=0.11.0" in line
