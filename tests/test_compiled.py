"""The command line keeps compiled programs, in a folder per kind of machine, unless the user has one."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from perler_jax.app import compiled

SCRIPT = """
import jax, jax.numpy as jnp, jax.monitoring
from perler_jax.app.compiled import keep_compiled_programs
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event.endswith("cache_hits")))
keep_compiled_programs()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.jit(lambda x: jnp.exp(x @ x.T).sum())(jnp.ones((30, 20)))
print(sum(hits))
"""


@pytest.fixture
def no_folder():
    """As in a process whose user has set none."""
    before = {
        name: getattr(jax.config, name)
        for name in (
            "jax_compilation_cache_dir",
            "jax_persistent_cache_min_compile_time_secs",
            "jax_persistent_cache_min_entry_size_bytes",
        )
    }
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture
def fresh_environment(tmp_path):
    """Of a user who has set nothing and run nothing yet."""
    set_here = ("JAX_COMPILATION_CACHE_DIR", "TF_CPP_MIN_LOG_LEVEL")  # the latter by JAX when it was imported
    environment = {name: value for name, value in os.environ.items() if name not in set_here}
    return environment | dict.fromkeys(("XDG_CACHE_HOME", "HOME", "LOCALAPPDATA"), str(tmp_path))


def test_a_second_process_finds_what_the_first_compiled(fresh_environment, tmp_path):
    first, second = (
        subprocess.run(
            [sys.executable, "-c", SCRIPT], env=fresh_environment, capture_output=True, text=True, check=True
        )
        for _ in range(2)
    )
    assert int(first.stdout) == 0
    assert int(second.stdout) > 0
    assert len([path for path in tmp_path.rglob("programs-*") if path.is_dir()]) == 1


def test_a_run_from_kept_programs_prints_what_the_first_printed(fresh_environment, tmp_path):
    sizes = ["--cells", "60", "--locations", "120", "--genes", "40", "--landmarks", "10"]
    line = [sys.executable, "-m", "perler_jax", "demo", "--quiet", *sizes]
    first, second = (
        subprocess.run(
            [*line, "-o", tmp_path / name], env=fresh_environment, capture_output=True, text=True, check=True
        )
        for name in ("one", "two")
    )
    assert any(tmp_path.rglob("*-cache"))
    assert first.stderr == second.stderr


def test_a_folder_of_the_users_own_is_left(no_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(compiled.platformdirs, "user_cache_path", lambda _: tmp_path / "ours")
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "theirs"))
    compiled.keep_compiled_programs()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "theirs")
    assert not (tmp_path / "ours").exists()


def test_a_home_that_cannot_be_written_to_only_costs_time(no_folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(compiled.platformdirs, "user_cache_path", lambda _: tmp_path / "file")
    compiled.keep_compiled_programs()
    assert jax.config.jax_compilation_cache_dir is None


def test_unlike_machines_have_unlike_folders(monkeypatch):
    one = compiled._kind_of_machine()
    monkeypatch.setattr(Path, "is_file", lambda _: False)
    other = compiled._kind_of_machine()
    assert one != other
    assert one.isalnum()
