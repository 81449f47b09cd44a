"""Files for those who join: recipe, image, workflows and forms say what pyproject.toml and `.ci` say."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
RECIPE = (ROOT / "conda" / "meta.yaml").read_text(encoding="utf-8")
OTHER_NAMES = {"matplotlib": "matplotlib-base"}  # what conda-forge calls it


def requirement(line):
    """(name, constraints) of a requirement, as pip or as conda writes it."""
    name, rest = re.fullmatch(r"([\w.-]+)(?:\[[^\]]*\])?\s*(.*)", line.partition(";")[0].strip()).groups()
    return name.lower(), tuple(sorted(each.strip() for each in rest.split(",") if each.strip()))


def section(name):
    """Requirements in a section of the recipe."""
    (lines,) = re.findall(rf"^  {name}:\n((?:    - .*\n)+)", RECIPE, re.MULTILINE)
    return dict(requirement(line) for line in re.findall(r"- (.*)", lines))


def test_requirements_are_read():
    assert requirement("jax>=0.8.3,!=0.10.2") == requirement("jax !=0.10.2, >=0.8.3")
    assert requirement("dask[array]>=2025.3") == ("dask", (">=2025.3",))
    assert requirement("pip") == ("pip", ())


def test_the_recipe_needs_what_the_project_needs():
    needed = dict(map(requirement, PROJECT["project"]["dependencies"]))
    expected = {OTHER_NAMES.get(name, name): constraints for name, constraints in needed.items()}
    expected["python"] = (PROJECT["project"]["requires-python"],)
    assert section("run") == expected
    building = dict(map(requirement, PROJECT["build-system"]["requires"]))
    assert section("host") == building | {"python": expected["python"], "pip": ()}


def test_the_recipe_is_of_this_release():
    (version,) = re.findall(r'set version = "(.+)"', RECIPE)
    assert version == PROJECT["project"]["version"]
    for name, target in PROJECT["project"]["scripts"].items():
        assert f"- {name} = {target}" in RECIPE
    assert f"license: {PROJECT['project']['license']}" in RECIPE


def test_the_image_is_built_from_all_that_the_wheel_needs():
    kept = set(re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    included = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert {path.strip("/") for path in included} | {"pyproject.toml"} == kept
    assert all((ROOT / path).exists() for path in kept)
    image = (ROOT / "Dockerfile").read_text()
    (version,) = set(re.findall(r"FROM python:(\d\.\d+)-slim", image))
    assert f"Programming Language :: Python :: {version}" in PROJECT["project"]["classifiers"]
    (extra,) = re.findall(r"\[(\w+)\]\"", image)
    assert extra in PROJECT["project"]["optional-dependencies"]


def test_workflows_run_what_is_there():
    yaml = pytest.importorskip("yaml")
    for path in sorted((ROOT / ".github" / "workflows").glob("*.yml")):
        steps = [step for job in yaml.safe_load(path.read_text())["jobs"].values() for step in job["steps"]]
        commands = [step["run"] for step in steps if "run" in step]
        assert commands, path.name
        for script in re.findall(r"\.ci/[\w-]+", "\n".join(commands)):
            assert (ROOT / script).stat().st_mode & 0o100, script
    everything = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert "run: .ci/run" in everything


def test_every_leg_is_run():
    (legs,) = re.findall(r"^for each in (.+); do leg", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert {f"leg-{name}" for name in legs.split()} == {path.name for path in (ROOT / ".ci").glob("leg-*")}


def test_forms_can_be_filled_in():
    yaml = pytest.importorskip("yaml")
    forms = [path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config"]
    assert len(forms) >= 3
    for path in forms:
        form = yaml.safe_load(path.read_text())
        assert form["name"], path.name
        assert form["description"], path.name
        fields = [each for each in form["body"] if each["type"] != "markdown"]
        assert len({each["id"] for each in fields}) == len(fields)
        assert any(each.get("validations", {}).get("required") for each in fields), path.name


def test_hooks_are_pinned():
    yaml = pytest.importorskip("yaml")
    for repository in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]:
        assert re.fullmatch(r"v\d+\.\d+\.\d+", repository["rev"])
        assert repository["hooks"]


def test_what_an_owner_must_do_is_said_in_each_place():
    """A marked line says what is to be done; nobody's address is made up."""
    files = ["SECURITY.md", "CODE_OF_CONDUCT.md", "SUPPORT.md", "docs/release.md", "conda/meta.yaml"]
    for name in files:
        found = re.findall(r"TODO\(owner\): (\S.*)", (ROOT / name).read_text(encoding="utf-8"))
        assert found, name
    for path in ROOT.glob("*.md"):
        assert not re.search(r"[\w.]+@[\w.]+\.\w+", path.read_text(encoding="utf-8")), path.name
