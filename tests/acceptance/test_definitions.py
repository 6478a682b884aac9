"""`definitions` as analysts and template authors run it."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from kiket_worker.definitions.dashboards.dashboard_file import read_dashboard
from kiket_worker.definitions.dashboards.preparing import relations_of
from kiket_worker.definitions.dashboards.query import build
from kiket_worker.definitions.dashboards.reading import Reading
from kiket_worker.definitions.yaml_document import read_yaml
from tests.support.dbt_scripts import until
from tests.support.definitions import EXAMPLES
from tests.support.tenants import KEYS

HEX = re.compile(r"[0-9a-f]{64}")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A definition repository with one model."""
    folder = tmp_path / "repository"
    (folder / "analytics/dbt/models").mkdir(parents=True)
    write(folder, "select 1 as n")
    return folder


@pytest.fixture
def console(installation: Any) -> Iterator[httpx.Client]:
    """Who may see acme, in a console that runs until the test ends."""
    installation.start("console", "--port", 0)
    (started,) = until(
        lambda: [event for event in installation.log("console") if event["event"] == "console.started"],
        "the console answers",
        seconds=60,
    )
    made = installation.run("tokens", "create", "--scope", "organization:acme", "--name", "test", "--json")
    cookies = {"kiket_session": made.document["token"]}
    with httpx.Client(base_url=f"http://{started['address']}", cookies=cookies, timeout=30) as client:
        yield client


def write(repository: Path, text: str | None) -> None:
    path = repository / "analytics/dbt/models/mine.sql"
    if text is None:
        path.unlink()
    else:
        path.write_text(text)


def test_a_repository_is_published_listed_and_gone_back_from(installation: Any, repository: Path) -> None:
    publish = ("definitions", "publish", repository, "--organization", "acme")
    dry = installation.run(*publish, "--dry-run")
    assert (dry.code, dry.out) == (0, "acme valid, and not published\n")
    assert installation.run("definitions", "list", "acme", "--json").document == []

    first = installation.run(*publish, "--author", "ada", "--commit", "3f2c1e9", "--json")
    assert first.code == 0
    (done,) = first.document
    assert (done["organization"], done["outcome"], done["version"]) == ("acme", "published", 1)
    assert HEX.fullmatch(done["bundle_digest"])
    run = installation.run("runs", "show", done["run_id"], "--json").document
    assert (run["organization"], run["status"]) == ("acme", "queued")
    again = installation.run(*publish)
    assert (again.code, again.out) == (0, "acme unchanged: that is what it has\n")

    write(repository, "select 2 as n")
    second = installation.run(*publish)
    assert second.out.startswith("acme published as version 2; run ")
    back = installation.run("definitions", "rollback", "acme", 1)
    assert back.out.startswith("acme rolled back, as version 3; run ")

    newest, _, oldest = installation.run("definitions", "list", "acme", "--json").document
    assert (newest["version"], newest["current"], newest["rolled_back_to"]) == (3, True, 1)
    assert newest["overlays"] == oldest["overlays"]
    assert list(oldest["overlays"]) == ["main"]
    assert (oldest["name"], oldest["author"], oldest["commit"]) == ("main", "ada", "3f2c1e9")
    assert (oldest["current"], oldest["bundle_digest"]) == (False, done["bundle_digest"])
    table = installation.run("definitions", "list", "acme").out
    assert ["3 (current)" in line for line in table.splitlines()] == [False, True, False, False]
    assert "back to 1" in table

    write(repository, None)
    assert installation.run(*publish).out.startswith("acme published as version 4")
    assert installation.run("definitions", "list", "acme", "--json").document[0]["overlays"] == {}


def test_the_whole_way_from_a_repository_to_a_dashboard_and_back(
    installation: Any, console: httpx.Client, sample_database: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "valid"
    shutil.copytree(EXAMPLES / "valid", folder)
    publish = ("definitions", "publish", folder, "--organization", "acme", "--json")
    (done,) = installation.run(*publish).document
    assert done["outcome"] == "published", done
    drawn_at = "/organizations/acme/dashboards/main/team"
    assert "first refresh makes the role" in console.get(drawn_at).text

    # Replay would be recorded beside each refresh, and ended with it.
    refresh = ("refresh", "acme", "--wait", "--json")
    refreshed = installation.run(*refresh, KIKET_DBT_ENGINE="executable")
    assert refreshed.code == 0, refreshed.err
    assert refreshed.document["run_id"] == done["run_id"]
    built = {model["model_id"].rpartition(".")[2] for model in refreshed.document["models"]}
    assert {"team_weeks", "team_grades", "crm_projects"} <= built

    answered = dashboard_rows(sample_database)
    expected = sample_database.rows(
        "select date_trunc('week', completed_at at time zone 'utc')::date as week_begins_on,"
        " count(*) as issues_completed"
        " from public.issues where organization_id = 1 and status = 'done' and issue_type <> 'epic'"
        " and completed_at is not null and project_id = (select min(id) from public.projects where organization_id = 1)"
        " group by 1 order by 1 desc limit 20"
    )
    assert [dict(row) for row in answered] == [dict(row) for row in expected]

    undrawn = console.get(drawn_at)
    assert undrawn.status_code == 200
    assert "The parameter &#39;project&#39; is required" in undrawn.text
    (project,) = sample_database.rows("select min(id) as id from public.projects where organization_id = 1")
    drawn = console.get(drawn_at, params={"p.project": project["id"]}).text
    assert str(expected[0]["week_begins_on"]) in drawn.partition("Of one project")[2]
    shown = f"/runs/{done['run_id']}"
    assert "version 1" in console.get(shown).text
    assert console.get(f"{shown}/artifacts/manifest.json").json()["nodes"]

    model = folder / "analytics/dbt/models/team_weeks.sql"
    model.write_text(model.read_text().replace("issues_completed)", "issues_finished)"))
    (refused,) = installation.run(*publish).document
    assert (refused["outcome"], refused["version"]) == ("refused", 1)
    told = {(problem["file"], problem["rule"]) for problem in refused["problems"]}
    assert told == {("analytics/dbt/models/team_weeks.sql", "database")}
    # What is live is not touched.
    assert dashboard_rows(sample_database) == answered

    shutil.rmtree(folder / ".kiket")
    model.write_text("select project_id from {{ ref('fct_throughput') }}")
    (folder / "analytics/dbt/models/team_weeks.yml").unlink()
    (folder / "analytics/dbt/tests/no_negative_weeks.sql").unlink()
    (folder / "analytics/dbt/exposures/boards.yml").unlink()
    second = installation.run(*publish).document
    assert [one["outcome"] for one in second] == ["published"], second
    assert installation.run("definitions", "rollback", "acme", 1).code == 0
    again = installation.run(*refresh, KIKET_DBT_ENGINE="executable")
    assert again.code == 0, again.err
    assert dashboard_rows(sample_database) == answered


def dashboard_rows(database: Any) -> list[Any]:
    """What the widget `of_project` shows of the first project, read as the console would: as the read-only twin."""
    path = ".kiket/analytics/dashboards/team.yaml"
    document = read_yaml((EXAMPLES / "valid" / path).read_text())
    dashboard = read_dashboard(Reading(path), document)
    assert dashboard is not None
    (config,) = (widget.source.config for widget in dashboard.widgets if widget.id == "of_project")
    (project,) = database.rows("select min(id) as id from public.projects where organization_id = 1")
    reader = "analytics_ro_acme"
    with psycopg.connect(database.url, user=reader, password=KEYS.password(reader, KEYS.current)) as session:
        columns = relations_of(session, "analytics_org_acme")["team_weeks"]
        return build(config, "analytics_org_acme", columns, {"project": project["id"]}).rows(session)


def test_a_repository_is_told_what_is_wrong_with_it(installation: Any, repository: Path) -> None:
    write(repository, "select\n    project_id,\n    issue_completed\nfrom {{ ref('fct_throughput') }}")
    told = installation.run("definitions", "validate", repository)
    assert told.code == 1
    assert told.out.startswith('analytics/dbt/models/mine.sql:3: error: column "issue_completed" does not exist')
    assert "     3 |     issue_completed\n" in told.out
    assert "docs/definition-rules.md#database" in told.out

    sarif = installation.run("definitions", "validate", repository, "--format", "sarif")
    assert (sarif.code, sarif.document["version"]) == (1, "2.1.0")

    installation.run("definitions", "validate", "nowhere").refused(2, "nowhere is no folder")
    installation.run("definitions", "validate", repository, DATABASE_URL="postgresql://127.0.0.1:9/x").refused(3)


def test_a_template_goes_to_everybody_and_one_failure_is_told(
    installation: Any, repository: Path, sample_database: Any
) -> None:
    sample_database.execute("update public.organizations set slug = 'No Slug' where slug = 'blue-harbor'")
    opted_in = [one["slug"] for one in installation.run("settings", "list", "--json").document if one["enabled"]]
    done = installation.run("definitions", "publish", repository, "--all", "--name", "template")
    assert done.code == 1
    told = done.out.splitlines() + done.err.splitlines()
    assert len(told) == len(opted_in)
    assert {line.split()[0] for line in told} == {f"{at + 1}/{len(opted_in)}" for at in range(len(opted_in))}
    (failed,) = done.err.splitlines()
    assert "No Slug failed: slug 'No Slug' cannot be a schema name" in failed
    assert sum("published as version 1" in line for line in done.out.splitlines()) == len(opted_in) - 1
    document = installation.run("definitions", "publish", repository, "--all", "--name", "template", "--json").document
    assert {one["outcome"] for one in document if one["organization"] != "No Slug"} == {"unchanged"}
    assert {one["error_kind"] for one in document} == {None, "organization_slug_invalid"}


def test_what_cannot_be_is_refused_in_a_line(installation: Any, repository: Path) -> None:
    publish = ("definitions", "publish", repository)
    installation.run(*publish).refused(2, "--organization", "--all")
    installation.run(*publish, "--organization", "acme", "--all").refused(2, "--organization", "--all")
    installation.run(*publish, "--organization", "nobody").refused(2, "nobody")
    installation.run(*publish, "--organization", "acme", "--name", "Not A Name").refused(2, "Not A Name")
    installation.run("definitions", "publish", "nowhere", "--organization", "acme").refused(2, "nowhere is no folder")
    installation.run("definitions", "rollback", "acme", 4).refused(2, "version 4")
    installation.run("definitions", "list", "nobody").refused(2, "nobody")


def test_without_the_store_nothing_is_published_and_the_code_says_so(installation: Any, repository: Path) -> None:
    away = {
        "ARTIFACTS_URL": "s3://bucket",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    done = installation.run("definitions", "publish", repository, "--organization", "acme", **away)
    done.refused(3, "acme failed")
    assert installation.run("definitions", "list", "acme", "--json").document == []


def test_workers_are_woken(cluster: Any, repository: Path) -> None:
    cluster.start("worker")
    done = cluster.run("definitions", "publish", repository, "--organization", "acme", "--json")
    assert done.code == 0, done.err
    run_id = done.document[0]["run_id"]
    until(
        lambda: cluster.run("runs", "show", run_id, "--json").document["status"] == "succeeded",
        "the refresh, without a ticker",
        seconds=60,
    )
    built = [event for event in cluster.log("worker") if event["event"] == "run.built"]
    assert [event["definitions_version"] for event in built] == [1]
