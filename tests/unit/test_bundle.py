"""A bundle's digest names its content: all that dbt reads, and nothing that dbt leaves."""

from pathlib import Path

import pytest

from kiket_worker.dbt.bundle import Bundle, core_bundle


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    (tmp_path / "profiles").mkdir()
    (tmp_path / "dbt_project.yml").write_text("name: x\n")
    (tmp_path / "models" / "a.sql").write_text("select 1")
    (tmp_path / "profiles" / "profiles.yml").write_text("x: {}\n")
    return tmp_path


def put(project: Path, name: str, content: str = "x") -> None:
    path = project / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def test_the_same_content_has_the_same_digest_wherever_it_lies(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    copy = tmp_path_factory.mktemp("copy")
    for name in ("profiles/profiles.yml", "models/a.sql", "dbt_project.yml"):
        put(copy, name, (project / name).read_text())
    assert Bundle(copy).digest == Bundle(project).digest


@pytest.mark.parametrize(
    "name",
    ["models/b.sql", "models/logs/b.sql", "models/target/b.sql", "models/README.md", "macros/m.sql", "profiles/p.yml"],
)
def test_whatever_dbt_reads_changes_the_digest(project: Path, name: str) -> None:
    before = Bundle(project).digest
    put(project, name)
    assert Bundle(project).digest != before


@pytest.mark.parametrize(
    "name",
    [
        "target/manifest.json",
        "logs/dbt.log",
        "dbt_packages/p/x.sql",
        "profiles/.user.yml",
        "README.md",
        "models/__pycache__/x",
    ],
)
def test_what_dbt_leaves_and_does_not_read_does_not_change_the_digest(project: Path, name: str) -> None:
    before = Bundle(project).digest
    put(project, name)
    assert Bundle(project).digest == before


def test_names_and_contents_cannot_be_moved_into_each_other(project: Path) -> None:
    put(project, "models/b.sql", "one")
    put(project, "models/c.sql", "two")
    before = Bundle(project).digest
    put(project, "models/b.sql", "onetwo")
    put(project, "models/c.sql", "")
    moved = Bundle(project).digest
    (project / "models/c.sql").rename(project / "models/d.sql")
    assert len({before, moved, Bundle(project).digest}) == 3


def test_the_core_project_is_found_with_its_profiles() -> None:
    bundle = core_bundle()
    assert (bundle.project_dir / "dbt_project.yml").is_file()
    assert (bundle.profiles_dir / "profiles.yml").is_file()
    assert len(bundle.digest) == 64
