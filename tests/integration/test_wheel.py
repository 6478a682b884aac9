"""The wheel as `pip install` gets it: complete, and without what dbt has left in the checkout."""

import shutil
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

import kiket_worker

ROOT = Path(kiket_worker.__file__).parent.parent
PROJECT = Path("analytics/dbt")

# What dbt and its users leave behind. `target` below the models is no leftover: dbt reads it.
LEFTOVERS = (
    "target/manifest.json",
    "logs/dbt.log",
    "dbt_packages/p/dbt_project.yml",
    "profiles/.user.yml",
    ".user.yml",
)
MODEL = "models/target/fct_goals.sql"


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names in a wheel built from a copy of the tree in which dbt has run."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for name in ("kiket_worker", PROJECT, "deploy/sql"):
        shutil.copytree(ROOT / name, tree / name)
    for name in (*LEFTOVERS, MODEL):
        path = tree / PROJECT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("select 1")
    (wheel,) = WheelBuilder(str(tree)).build(directory=str(tree / "dist"), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_has_the_package_with_everything_that_it_reads(contents: set[str]) -> None:
    files = {path for path in (ROOT / "kiket_worker").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {path.suffix for path in files} >= {".py", ".sql", ".jinja"}
    assert {str(path.relative_to(ROOT)) for path in files} - contents == set()
    assert "kiket_worker/dbt/guard.py" in contents
    assert any(name.startswith("kiket_worker/ledger/migrations/") for name in contents)
    assert "kiket_worker/deploy/sql/roles.sql" in contents


def test_the_wheel_has_the_dbt_project_where_the_package_looks_for_it(contents: set[str]) -> None:
    wanted = [MODEL, "dbt_project.yml", "profiles/profiles.yml", "README.md"]
    for folder in ("macros", "models", "tests"):
        wanted += [str(path.relative_to(ROOT / PROJECT)) for path in (ROOT / PROJECT / folder).rglob("*.*")]
    assert {f"kiket_worker/analytics/dbt/{name}" for name in wanted} - contents == set()


def test_the_wheel_has_nothing_else(contents: set[str]) -> None:
    assert [name for name in contents if name.endswith(LEFTOVERS)] == []
    assert {name.split("/")[0].partition("-")[0] for name in contents} == {"kiket_worker"}
