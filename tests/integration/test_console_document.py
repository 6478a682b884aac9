"""The API's document holds: requests made from it are never answered 5xx, and every answer is as it says."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance, response_schema_conformance

from kiket_worker.console.api import PREFIX
from kiket_worker.ledger import runs
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.runs import Request
from tests.support.console import API, Console, Served
from tests.support.dbt_scripts import FAILING
from tests.support.refreshes import Refreshes

DOCUMENT = Console(None, Path("/nowhere")).app().openapi()  # type: ignore[arg-type]  # nothing is asked of the ledger
OPERATIONS = [(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods]


@pytest.fixture(scope="module")
def api(sample_databases: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The document of a console that answers."""
    with Database(sample_databases[0].url, max_connections=8) as ledger:
        console = Console(ledger, tmp_path_factory.mktemp("console"))
        refreshes = Refreshes.prepare(sample_databases[0].url, ledger, tmp_path_factory.mktemp("refreshes"))
        ended = []
        for script in ('build("a")', FAILING):  # With models, attempts, artifacts and usage, and with an error.
            ended.append(refreshes.request())
            refreshes.start(ended[-1], refreshes.services(script)).wait()
        waiting = runs.request(ledger, Request(1, "acme")).run_id
        with console.serving() as served:
            schema = schemathesis.openapi.from_dict(examples([str(run_id) for run_id in ended], str(waiting)))
            schema.config.update(base_url=served.url, headers={"Authorization": f"Bearer {console.token()}"})
            yield schema


def examples(ended: list[str], waiting: str) -> dict[str, Any]:
    """The document, in which paths name what there is as well as what there may be."""
    document = Console(None, Path("/nowhere")).app().openapi()  # type: ignore[arg-type]
    slugs, run_ids = ["acme", "blue-harbor", "nobody"], [*ended, "01a219a6-a567-7693-8264-f1caa9d8c10b"]
    for path, methods in document["paths"].items():
        # The stream of a run that waits does not end; test_console_events.py reads those.
        known = {"slug": slugs, "run_id": run_ids if path.endswith("/events") else [*run_ids, waiting]}
        for operation in methods.values():
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path":
                    parameter["schema"] = parameter["schema"] | {"enum": known[parameter["name"]]}
    return document


def test_the_document_is_there_for_who_has_no_token_yet(served: Served) -> None:
    answer = httpx.get(f"{served.url}{API}/openapi.json")
    assert (answer.status_code, answer.json()) == (200, DOCUMENT)


def test_settings_that_are_left_out_have_no_default() -> None:
    """A client that is made from the document would fill it in, and pause an organisation whose docs it wants."""
    properties = DOCUMENT["components"]["schemas"]["SettingsChange"]["properties"]
    assert properties.keys() == {"enabled", "refresh_interval_hours", "docs"}
    assert [name for name, schema in properties.items() if "default" in schema] == []


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_answers_are_as_the_document_says(api: Any, path: str, method: str, mode: GenerationMode) -> None:
    operation = api[path][method]
    statuses = set()

    @settings(max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Case) -> None:
        response = case.call()
        statuses.add(response.status_code)
        # No schema can say what is a cursor of this list.
        is_cursor = response.status_code == 422 and response.json()["kind"] == "cursor_invalid"
        excluded = [ignored_auth, *([positive_data_acceptance] if is_cursor else [])]
        if response.headers["content-type"][0].startswith("text/event-stream"):
            # To OpenAPI 3.1 a stream is one text; test_console_events.py reads its events.
            excluded.append(response_schema_conformance)
        case.validate_response(response, excluded_checks=excluded)

    ask()
    assert statuses
    if mode is GenerationMode.POSITIVE:
        assert min(statuses) < 300, f"nothing was answered well: {statuses}"


def test_the_document_is_openapi_3_1() -> None:
    assert DOCUMENT["openapi"].startswith("3.1")
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_operation_names_its_problems_and_asks_for_a_token(path: str, method: str) -> None:
    operation = DOCUMENT["paths"][path][method]
    assert path.startswith(PREFIX)
    assert operation["summary"]
    assert {"token": []} in operation["security"]
    assert ({"session": []} in operation["security"]) is (method == "get")
    problems = {status for status in operation["responses"] if status >= "400"}
    assert problems >= {"401", "408", "413", "422", "429", "500", "503"}
    assert ("404" in problems) is ("{" in path or path.endswith(("/runs", "/usage")))
    for status in problems:
        assert set(operation["responses"][status]["content"]) == {"application/problem+json"}
    assert "Retry-After" in operation["responses"]["429"]["headers"]
