"""The documentation says what the code does: tables are compared, links are followed."""

import re
from pathlib import Path

import pytest
from typer.main import get_group

import kiket_worker
from kiket_worker.cli.app import app
from kiket_worker.events import CATALOGUE

ROOT = Path(kiket_worker.__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("analytics/**/*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)", page.read_text())
    missing = [link for link in targets if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


def test_the_runbook_lists_every_event_as_the_catalogue_has_it() -> None:
    lines = set((ROOT / "docs" / "operations.md").read_text().splitlines())
    for event in CATALOGUE.values():
        level = event.level_name
        fields = ", ".join(sorted(event.fields))
        assert f"| `{event.name}` | {level} | {fields} | {event.meaning} | {event.remedy or '–'} |" in lines


def test_the_runbook_explains_every_error_kind_that_a_run_can_end_with() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    declared = {
        kind
        for path in (ROOT / "kiket_worker").rglob("*.py")
        if "dev" not in path.parts and "cli" not in path.parts
        for kind in re.findall(r'^    kind = "(\w+)"', path.read_text(), re.MULTILINE)
    }
    assert declared, "kinds are declared as class attributes"
    assert {kind for kind in declared if f"`{kind}`" not in text} == set()


def test_the_changelog_names_every_command() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    names = list(get_group(app).commands)
    assert "refresh" in names
    assert {name for name in names if f"`{name}`" not in changelog} == set()


def test_every_dependency_has_its_reason() -> None:
    text = (ROOT / "docs" / "dependencies.md").read_text()
    project = (ROOT / "pyproject.toml").read_text()
    named = re.findall(r'^\s*"([A-Za-z0-9-]+)(?:\[[^\]]*\])?[>=]', project, re.MULTILINE)
    named += re.findall(r'dev = \["([a-z-]+)', project)
    stubs = {name for name in named if name.startswith("types-") or name.endswith("-stubs")}
    assert {name for name in set(named) - stubs if name not in text} == set()


def test_constraints_pin_versions_and_name_no_address() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert lines
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.!+-]+", line) for line in lines)
