"""A bundle's digest names its content: all that dbt reads, and nothing that dbt leaves."""

from pathlib import Path

import pytest

from kiket_worker.dbt.bundle import Bundle, core_bundle, shared_bundle


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


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def core(project: Path) -> Bundle:
    for name in ("models/shared/dim.sql", "models/marts/fct.sql", "macros/m.sql", "tests/generic/g.sql", "tests/t.sql"):
        put(project, name)
    put(project, "models/shared_not/x.sql")
    put(project, "target/manifest.json")
    return Bundle(project)


def test_the_shared_part_has_no_model_of_an_organisation(
    core: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> None:
    laid_out = shared_bundle(core).laid_out(tmp_path_factory.mktemp("out") / "project")
    assert files(laid_out.project_dir) == {
        *("dbt_project.yml", "profiles/profiles.yml", "macros/m.sql", "tests/generic/g.sql", "models/shared/dim.sql"),
    }
    assert laid_out.profiles_dir.is_dir()


def test_what_is_laid_out_has_the_digest_of_what_it_was_laid_out_from(
    core: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for bundle in (core, shared_bundle(core)):
        assert bundle.laid_out(tmp_path_factory.mktemp("out")).digest == bundle.digest
    assert shared_bundle(core).digest != core.digest


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("models/shared/other.sql", True),
        ("macros/m.sql", True),
        ("dbt_project.yml", True),
        ("models/marts/fct.sql", False),
        ("models/a.sql", False),
        ("tests/t.sql", False),
        ("models/shared_not/x.sql", False),
    ],
)
def test_only_what_the_shared_models_are_made_of_makes_them_due_again(core: Bundle, name: str, counts: bool) -> None:
    before, whole = shared_bundle(core).digest, Bundle(core.project_dir).digest
    put(core.project_dir, name, "changed")
    assert (shared_bundle(core).digest != before) is counts
    assert Bundle(core.project_dir).digest != whole


def test_the_shared_part_of_the_core_project_is_what_the_shared_folder_has(tmp_path: Path) -> None:
    laid_out = shared_bundle(core_bundle()).laid_out(tmp_path / "project")
    models = {name for name in files(laid_out.project_dir) if name.endswith(".sql") and name.startswith("models/")}
    assert models == {"models/shared/dim_dates.sql"}
