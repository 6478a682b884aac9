"""Each procedure of the runbook names the tests or scripts that carry it out, and they exist."""

import re
from pathlib import Path

import pytest

import kiket_worker
from tests.support.kustomization import compose

ROOT = Path(kiket_worker.__file__).parent.parent
SECTION = (ROOT / "docs" / "operations.md").read_text().split("\n## Procedures\n")[1].split("\n## ")[0]
PROCEDURES = {part.partition("\n")[0]: part for part in SECTION.split("\n### ")[1:]}


def test_the_runbook_has_every_procedure_that_operators_need() -> None:
    words = (
        "siz",
        "scaling",
        "tuning",
        "restore",
        "rabbitmq",
        "credentials",
        "keys",
        "quarantine",
        "drain",
        "dbt",
        "cost",
    )
    names = " ".join(PROCEDURES).lower()
    assert [word for word in words if word not in names] == []


@pytest.mark.parametrize("name", PROCEDURES)
def test_a_procedure_names_what_carries_it_out_and_that_exists(name: str) -> None:
    _, found, carried_out = PROCEDURES[name].partition("\nCarried out by:")
    assert found, "its last line says what carries it out"
    named = re.findall(r"`([^`]+)`", carried_out)
    assert named
    for one in named:
        path, _, test = one.partition("::")
        assert (ROOT / path).is_file(), one
        if path.startswith("tests/"):
            assert re.search(rf"^def {re.escape(test)}\(", (ROOT / path).read_text(), re.MULTILINE), one


def test_what_kubectl_is_told_to_change_is_there() -> None:
    objects = compose(ROOT / "deploy" / "kubernetes" / "overlays" / "cluster")
    known = {f"{one['kind'].lower()}/{one['metadata']['name']}" for one in objects}
    commands = " ".join(re.findall(r"^kubectl (?:.*\\\n)*.*$", SECTION, re.MULTILINE))
    named = {one.replace(" ", "/") for one in re.findall(r"\b(?:deployment/|scaledobject )[a-z-]+", commands)}
    assert len(named) > 2
    assert named - known == set()
    namespaces = {one["metadata"]["name"] for one in objects if one["kind"] == "Namespace"}
    assert set(re.findall(r"--namespace (\S+)", commands)) == namespaces


@pytest.mark.parametrize("name", PROCEDURES)
def test_scripts_and_commands_of_a_procedure_exist(name: str) -> None:
    for script in re.findall(r"\bscripts/[a-z-]+", PROCEDURES[name]):
        path = ROOT / script
        assert path.is_file()
        assert path.stat().st_mode & 0o100, f"{script} can be executed"
    for module in re.findall(r"python -m (benchmarks(?:\.simulation)?)\b", PROCEDURES[name]):
        assert (ROOT / module.replace(".", "/") / "__main__.py").is_file()
