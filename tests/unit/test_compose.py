"""The compose file: valid by the schema of Docker Compose, complete, and as careful as it says."""

import json
import os
import re
import stat
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

import kiket_worker
from kiket_worker.settings import Settings, settings_from, tenant_keys
from tests.support import deployments

ROOT = Path(kiket_worker.__file__).parent.parent
COMPOSE = ROOT / "deploy" / "compose.yaml"
DOCUMENT: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
SERVICES: dict[str, dict[str, Any]] = DOCUMENT["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
ONCE = {"migrate", "login", "bucket"}
SCHEMA = json.loads((ROOT / "tests" / "schemas" / "compose-spec.json").read_text())


def interpolated(text: Any) -> str:
    """With each variable's default, as where nobody has set one."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(text))


def seconds(text: str) -> float:
    assert text.endswith("s")
    return timedelta(seconds=float(text[:-1])).total_seconds()


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compose") / "secrets"
    subprocess.run([ROOT / "deploy" / "make-secrets", folder], check=True, capture_output=True)
    return folder


def test_it_is_valid() -> None:
    Draft7Validator.check_schema(SCHEMA | {"$schema": "http://json-schema.org/draft-07/schema#"})
    faults = list(Draft7Validator(SCHEMA).iter_errors(DOCUMENT))
    assert faults == []


@pytest.mark.parametrize(
    ("service", "wrong"),
    [("worker", {"comand": ["worker"]}), ("ticker", {"depends_on": {"migrate": {"condition": "done"}}})],
)
def test_the_schema_sees_what_is_wrong(service: str, wrong: dict[str, Any]) -> None:
    services = SERVICES | {service: SERVICES[service] | wrong}
    assert list(Draft7Validator(SCHEMA).iter_errors(DOCUMENT | {"services": services}))


def test_there_is_everything_that_an_installation_needs() -> None:
    assert set(SERVICES) == {"postgres", "rabbitmq", "store", "ticker", "worker", "console"} | ONCE
    assert SERVICES["worker"]["deploy"]["replicas"] >= 2
    assert SERVICES["migrate"]["command"] == ["migrate", "--roles"]


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_has_no_more_rights_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert "network_mode" not in service
    # One writable folder beside the volumes with data.
    assert "/tmp" in {entry.partition(":")[0] for entry in service["tmpfs"]}


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_says_whether_it_is_well(name: str) -> None:
    check = SERVICES[name].get("healthcheck")
    if name in ONCE:
        assert check == {"disable": True}
    elif name in {"ticker", "worker"}:
        assert check is None, "the image has it"
    else:
        assert check["test"][0] == "CMD"


def test_nobody_begins_before_what_it_needs() -> None:
    order = {
        name: {other: how["condition"] for other, how in service.get("depends_on", {}).items()}
        for name, service in SERVICES.items()
    }
    for name, needed in order.items():
        for other, condition in needed.items():
            assert condition == ("service_completed_successfully" if other in ONCE else "service_healthy"), name
    assert order["login"].keys() == {"migrate"}
    for name in ("ticker", "worker", "console"):
        assert order[name].keys() == {"login", "bucket", "rabbitmq"}


@pytest.mark.parametrize("name", OURS)
def test_commands_and_variables_are_those_of_the_product(name: str) -> None:
    service = OURS[name]
    if "entrypoint" not in service:
        assert deployments.unknown_arguments(service["command"]) == []
    assert deployments.unknown_variables(set(service["environment"])) == set()


def test_no_secret_is_in_the_file_and_each_service_gets_what_it_reads() -> None:
    for name, service in SERVICES.items():
        mounted = {one["source"] if isinstance(one, dict) else one for one in service.get("secrets", [])}
        assert mounted <= set(DOCUMENT["secrets"])
        text = json.dumps([service.get("environment"), service.get("command")])
        read = set(re.findall(r"/run/secrets/([a-z-]+)", text))
        # What these read, they do not use.
        unused = {"bucket": {"database-url", "rabbitmq-url", "tenant-keys"}}
        assert read - unused.get(name, set()) <= mounted, name
        secret = ("PASSWORD", "_KEYS", "_KEY", "DATABASE_URL", "RABBITMQ_URL")
        given = {key: value for key, value in service.get("environment", {}).items() if value != "memory://"}
        assert [variable for variable in given if variable.endswith(secret)] == []
    assert not re.search(r"://[^/\s]+:[^/\s]+@", interpolated(COMPOSE.read_text()))


def test_only_migrations_get_the_superuser() -> None:
    users = {name for name, service in SERVICES.items() if "database-url-of-migrations" in service.get("secrets", [])}
    assert users == {"migrate"}
    holders = {name for name, service in SERVICES.items() if "postgres-password" in service.get("secrets", [])}
    assert holders == {"postgres", "login"}


def test_services_are_reached_from_this_machine_only() -> None:
    assert DOCUMENT["networks"]["inside"] == {"internal": True}
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert list(published) == ["console"]
    assert all(port.startswith("127.0.0.1:") for port in published["console"])
    assert all(service["networks"] == ["inside"] for name, service in SERVICES.items() if name != "console")


def test_a_refresh_may_end_before_its_worker_is_killed() -> None:
    service = SERVICES["worker"]
    environment = {name: interpolated(value) for name, value in service["environment"].items()}
    needed = {"DATABASE_URL": "postgresql://x/y", "RABBITMQ_URL": "memory://"}
    own = {name: value for name, value in environment.items() if not name.endswith("_FILE")}
    settings = Settings.model_validate(own | needed)
    assert settings.grace_seconds >= settings.run_time_limit_seconds
    assert seconds(service["stop_grace_period"]) >= settings.grace_seconds + 30


def test_files_that_are_mounted_are_there() -> None:
    sources = [str(volume).partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])]
    for source in sources:
        assert source in DOCUMENT["volumes"] or (COMPOSE.parent / source).is_file(), source
    build = OURS["worker"]["build"]
    assert (COMPOSE.parent / build["context"] / build["dockerfile"]).is_file()


def test_the_script_makes_every_secret_and_its_owner_alone_may_look(secrets: Path) -> None:
    assert {path.name for path in secrets.iterdir() if path.is_file()} == set(DOCUMENT["secrets"])
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    for name, secret in DOCUMENT["secrets"].items():
        assert secret == {"file": f"secrets/{name}"}
        # A container's user is another one.
        assert stat.S_IMODE((secrets / name).stat().st_mode) == 0o444


def test_the_product_reads_the_secrets_as_they_are_made(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("KIKET_", "DBT_", "AWS_"))]:
        monkeypatch.delenv(name)
    for name in ("ticker", "worker", "console"):
        service = OURS[name]
        environment = {
            variable: interpolated(value).replace("/run/secrets", str(secrets))
            for variable, value in service["environment"].items()
        }
        settings = settings_from({name: value for name, value in environment.items() if value})
        assert settings.tenant_keys is not None
        assert list(tenant_keys(settings.tenant_keys.get_secret_value())) == [1]
        assert settings.rabbitmq_url.get_secret_value().startswith("amqp://kiket:")
    conf = dict(line.split(" = ") for line in (secrets / "rabbitmq-conf").read_text().splitlines())
    assert f":{conf['default_pass']}@rabbitmq:5672/" in (secrets / "rabbitmq-url").read_text()


def test_the_script_keeps_what_is_there_and_follows_what_was_replaced(tmp_path: Path) -> None:
    def make() -> dict[str, str]:
        subprocess.run([ROOT / "deploy" / "make-secrets", tmp_path], check=True, capture_output=True)
        return {path.name: path.read_text() for path in tmp_path.iterdir() if path.is_file()}

    first = make()
    assert make() == first
    (tmp_path / "ledger-password").unlink()
    second = make()
    assert {name for name in first if first[name] != second[name]} == {"ledger-password", "database-url"}


def test_the_script_keeps_an_address_that_somebody_has_written(tmp_path: Path) -> None:
    command = [ROOT / "deploy" / "make-secrets", tmp_path]
    subprocess.run(command, check=True, capture_output=True)
    url = tmp_path / "database-url"
    url.unlink()
    url.write_text("postgresql://kiket_ledger:secret@db.example.org/kiket\n")
    (tmp_path / "ledger-password").unlink()
    again = subprocess.run(command, check=True, capture_output=True, text=True)
    assert url.read_text() == "postgresql://kiket_ledger:secret@db.example.org/kiket\n"
    assert "database-url stays as somebody has written it\n" in again.stdout
    assert "secret@" not in again.stdout
