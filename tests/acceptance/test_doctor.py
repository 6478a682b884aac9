"""`doctor` as an operator runs it."""

from pathlib import Path
from typing import Any

import pika

from kiket_worker.contract import QUEUE_REQUESTS
from tests.support.tenants import SECRETS


def kinds(document: Any) -> set[str]:
    return {finding["kind"] for finding in document}


def test_an_installation_and_an_organisation_are_looked_at(installation: Any) -> None:
    looked = installation.run("doctor", "--organization", "acme", "--json")
    assert all(set(finding) == {"kind", "severity", "message", "remedy", "organization"} for finding in looked.document)
    assert {"not_provisioned", "ticker_silent"} <= kinds(looked.document)
    assert looked.code == 1, "no ticker has run"

    assert installation.run("refresh", "acme", "--wait", KIKET_DBT_EXECUTABLE="no-such-dbt").code == 1
    found = {
        finding["kind"]: finding for finding in installation.run("doctor", "--organization", "acme", "--json").document
    }
    assert "dbt_executable_missing" in found["failing"]["message"]
    assert found["failing"]["organization"] == "acme"

    table = installation.run("doctor", "--organization", "acme")
    assert table.code == 1
    assert "failing" in table.out
    assert "ticker_silent" not in kinds(installation.run("doctor", "--json").document)


def test_the_services_around_are_looked_at(cluster: Any, tmp_path: Path, rabbitmq_url: str) -> None:
    # The dbt of `cluster` is an executable of its own, and nobody has started anything: nothing is wrong by that. Only
    # the tests' server has more databases than one.
    others = {"roles_shared_between_databases", "other_databases_open"}
    looked = cluster.run("doctor", "--json")
    assert kinds(looked.document) - others == set(), looked.out
    with pika.BlockingConnection(pika.URLParameters(rabbitmq_url)) as connection:
        connection.channel().queue_declare(QUEUE_REQUESTS)
        (tmp_path / "file").touch()
        looked = cluster.run("doctor", "--json", ARTIFACTS_URL=f"{(tmp_path / 'file').as_uri()}/x")
        connection.channel().queue_delete(QUEUE_REQUESTS)
    assert looked.code == 1
    assert {"queue_mismatch", "artifacts_refused"} <= kinds(looked.document)
    assert all(finding["remedy"] for finding in looked.document)
    away = cluster.run("doctor", RABBITMQ_URL="amqp://localhost:1")
    assert away.code == 1
    assert "rabbitmq_unreachable" in away.out


def test_shared_mode_is_a_warning_and_no_failure(installation: Any) -> None:
    looked = installation.run("doctor", "--json", KIKET_ISOLATION="shared", without=("KIKET_TENANT_KEYS",))
    assert kinds(looked.document) == {"isolation_shared"}
    assert looked.code == 0


def test_what_keeps_doctor_from_looking_is_a_finding_or_a_plain_line(
    installation: Any, empty_database: Any, database: Any
) -> None:
    unmigrated = installation.run("doctor", "--organization", "acme", "--json", DATABASE_URL=empty_database.url)
    assert (unmigrated.code, kinds(unmigrated.document)) == (1, {"ledger_not_migrated"})
    roleless = installation.run("doctor", "--json", DATABASE_URL=database.url)
    assert (roleless.code, kinds(roleless.document)) == (1, {"roles_not_set_up"})
    assert "migrate --roles" in roleless.document[0]["remedy"]
    installation.run("doctor", "--organization", "nobody").refused(2, "nobody")
    installation.run("doctor", DATABASE_URL="postgresql://localhost:1/x").refused(3, "Postgres")
    away = installation.run("doctor", "--json", DATABASE_URL="postgresql://localhost:1/x")
    assert (away.code, kinds(away.document)) == (3, {"postgres_unreachable"})
    assert "DATABASE_URL" in away.document[0]["remedy"]
    installation.run("doctor", KIKET_GATES_FILE="/nowhere.toml").refused(2, "/nowhere.toml")


def test_no_finding_repeats_a_secret(installation: Any) -> None:
    looked = installation.run("doctor", "--organization", "acme", "--json")
    secrets = [SECRETS.ledger_password, SECRETS.tenant_keys.partition(":")[2]]
    assert not [secret for secret in secrets if secret in looked.out + looked.err]
