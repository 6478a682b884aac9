"""Replay and dbt itself, each in an installation of its own: nobody can tell afterwards which was which."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from dbt.artifacts.schemas.manifest import WritableManifest
from dbt.artifacts.schemas.run import RunResultsArtifact

from kiket_worker.dbt.bundle import Bundle
from kiket_worker.tenants.provisioning import Candidate
from tests.support.twins import PROJECTS, Twins, differences, normalised, read, twins

# A word of the SQL that is a part of other names too, and one with a hyphen that begins with a number, and a number.
SLUGS = ("issues", "7-a", "7")
KINDS: dict[str, Any] = {"run_results.json": RunResultsArtifact, "manifest.json": WritableManifest}


@pytest.fixture(scope="module")
def everything(
    sample_databases: tuple[Any, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Twins, list[Candidate]]]:
    folder = tmp_path_factory.mktemp("twins")
    with twins(sample_databases, Bundle(PROJECTS / "everything"), folder, command="build") as made:
        candidates = [made.add(slug) for slug in SLUGS]
        for number, candidate in enumerate(candidates):
            give_issues(made, candidate, 3 + 4 * number)
        compiled = made.replayed.compile(candidates[0])
        assert compiled.reasons == ()
        yield made, candidates


def told(outcome: Any) -> list[tuple[str, str, str, str | None]]:
    """What dbt's log tells, in an order that no thread mixes: event, code, level, and the node that it is about."""
    events = [json.loads(line) for line in outcome.files["dbt.log"].read_text().splitlines()]
    return sorted(
        (
            event["info"]["name"],
            event["info"]["code"],
            event["info"]["level"],
            (event["data"].get("node_info") or {}).get("unique_id", ""),
        )
        for event in events
    )


def give_issues(made: Twins, candidate: Candidate, count: int) -> None:
    made.execute(
        "insert into public.projects (id, organization_id, key, name, archived, created_at)"
        " values (%s, %s, 'P', 'org', false, '2026-01-01') on conflict do nothing",
        10_000 + candidate.organization_id,
        candidate.organization_id,
    )
    made.execute(
        "insert into public.issues"
        " (id, organization_id, project_id, title, status, issue_type, priority, created_at, updated_at)"
        " select (select max(id) from public.issues) + n, %s, %s, 'it''s ' || n,"
        " case when n %% 2 = 0 then 'done' else 'todo' end, 'task', 'low', '2026-01-01',"
        " timestamptz '2026-01-01' + n * interval '1 h'"
        " from generate_series(1, %s) as n",
        candidate.organization_id,
        10_000 + candidate.organization_id,
        count,
    )


def test_every_kind_of_node_in_every_state(everything: tuple[Twins, list[Candidate]]) -> None:
    made, candidates = everything
    for candidate in candidates:
        for state in ("fresh", "again", "full") if candidate is candidates[0] else ("fresh",):
            replayed, by_dbt = made.run(candidate, full_refresh=state == "full")
            where = f"{candidate.slug} {state}"
            assert replayed.deoptimised is None, where
            assert (replayed.engine, by_dbt.engine) == ("replay", "executable")
            assert replayed.failure is None, where
            assert by_dbt.failure is None, where
            made.assert_equal(candidate)
            for name in ("run_results.json", "manifest.json"):
                documents = [
                    normalised(read(outcome, name), side, outcome)
                    for side, outcome in zip(made.sides, (replayed, by_dbt), strict=True)
                ]
                KINDS[name].from_dict(read(replayed, name))  # dbt's own reader of its schema takes it.
                found = "\n".join(differences(*documents))
                assert not found, f"{where} {name}\n{found}"
            assert told(replayed) == told(by_dbt), where
            if candidate is candidates[0]:
                give_issues(made, candidate, 2)
