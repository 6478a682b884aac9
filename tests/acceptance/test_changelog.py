"""`changelog` as a user types it, and the ticker that does it by itself."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import kiket_worker

SCHEMA = Path(kiket_worker.__file__).parent.parent / "deploy" / "contracts" / "changelog-evaluations.schema.json"
DEFAULT = Path("docs-site") / "data" / "changelog_evaluations.json"


def exported(file: Path) -> list[dict[str, Any]]:
    documents: list[dict[str, Any]] = json.loads(file.read_text())
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate(documents)
    return documents


def test_changelogs_are_evaluated_once_and_exported_where_the_schema_describes_it(
    installation: Any, sample_database: Any
) -> None:
    (row,) = sample_database.rows(
        "select count(*)::int as n from public.releases where coalesce(changelog, changelog_draft) is not null"
    )
    acme = installation.run("changelog", "evaluate", "--organization", "acme", "--json").document["evaluated"]
    assert 0 < acme < row["n"]
    rest = installation.run("changelog", "evaluate")
    assert (rest.code, rest.out) == (0, f"{row['n'] - acme} releases evaluated\n")
    assert installation.run("changelog", "evaluate", "--json").document == {"evaluated": 0}

    first = installation.run("changelog", "export", "--json")
    assert first.document == {"output": str(DEFAULT), "evaluations": row["n"], "changed": True}
    documents = exported(installation.folder / DEFAULT)
    assert len(documents) == row["n"]
    again = installation.run("changelog", "export")
    assert again.out == f"{row['n']} evaluations unchanged in {DEFAULT}\n"

    output = installation.folder / "acme.json"
    written = installation.run("changelog", "export", "--organization", "acme", "--output", output)
    assert written.out == f"{acme} evaluations written to {output}\n"
    assert {one["organization_id"] for one in exported(output)} == {1}
    assert [one for one in documents if one["organization_id"] == 1] == exported(output)


def test_what_goes_wrong_is_one_line(installation: Any, sample_database: Any) -> None:
    for command in ("evaluate", "export"):
        installation.run("changelog", command, "--organization", "acne").refused(2, "acne")
        unreachable = "postgresql://kiket@127.0.0.1:9/kiket"
        installation.run("changelog", command, DATABASE_URL=unreachable).refused(3, "Postgres")
    installation.run("changelog", "export", "--output", "/proc/nowhere/file.json").refused(1, "/proc/nowhere/file.json")
    sample_database.execute("drop table public.releases cascade")
    installation.run("changelog", "evaluate").refused(1, "public.releases")
    assert installation.run("changelog", "export").code == 0


@pytest.mark.parametrize("by", ["variable", "option"])
def test_a_ticker_that_is_told_so_evaluates_and_exports(cluster: Any, sample_database: Any, by: str) -> None:
    assert cluster.run("ticker", "--once").code == 0
    assert sample_database.rows("select from kiket_analytics.changelog_evaluations") == []
    options = ["--changelog-interval-hours", "24"] if by == "option" else []
    variables = {"KIKET_CHANGELOG_OUTPUT": "evaluations.json"} | (
        {} if options else {"KIKET_CHANGELOG_INTERVAL_HOURS": "24"}
    )
    done = [cluster.run("ticker", "--once", *options, **variables) for _ in range(2)]
    told = [json.loads(line)["event"] for one in done for line in one.out.splitlines()]
    assert told.count("changelog.evaluated") == 1
    assert len(exported(cluster.folder / "evaluations.json")) > 10


def test_a_ticker_in_the_background_evaluates_beside_its_ticks(cluster: Any, sample_database: Any, until: Any) -> None:
    process = cluster.start("ticker", KIKET_CHANGELOG_INTERVAL_HOURS="1")
    until(
        lambda: "changelog.evaluated" in [line["event"] for line in cluster.log("ticker")], "changelogs are evaluated"
    )
    process.terminate()
    assert process.wait(60) == 0
    assert sample_database.rows("select from kiket_analytics.changelog_evaluations")
