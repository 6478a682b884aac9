"""The environment: what is required, what is refused, and that no secret is shown."""

import os
import re
from pathlib import Path

import pytest

from kiket_worker.errors import InvalidSetting
from kiket_worker.settings import IsolationMode, Settings, load_settings

VARIABLES = {str(field.alias) for field in Settings.model_fields.values()}
REQUIRED = ("DATABASE_URL", "RABBITMQ_URL", "ARTIFACTS_URL")
ENV_EXAMPLE = Path(__file__).parents[2] / ".env.example"
SECRET = "hunter2-hunter2"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper() in VARIABLES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("DATABASE_URL", f"postgresql://kiket:{SECRET}@localhost/kiket")
    monkeypatch.setenv("RABBITMQ_URL", f"amqp://kiket:{SECRET}@localhost/%2F")
    monkeypatch.setenv("ARTIFACTS_URL", "s3://bucket/prefix")


def refusal() -> str:
    with pytest.raises(InvalidSetting) as caught:
        load_settings()
    # What a traceback would print, with everything that led to the error.
    assert caught.value.__suppress_context__
    assert SECRET not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_the_three_required_variables_suffice() -> None:
    settings = load_settings()
    assert settings.database_url.get_secret_value().endswith("@localhost/kiket")
    assert settings.concurrency == 2
    assert not settings.in_one_process


@pytest.mark.parametrize("given", [None, ""], ids=["unset", "empty"])
def test_each_missing_variable_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch, given: str | None) -> None:
    for name in REQUIRED:
        monkeypatch.delenv(name)
        if given is not None:
            monkeypatch.setenv(name, given)
    message = refusal()
    for name in REQUIRED:
        assert f"{name} is not set" in message
    assert ".env.example" in message
    assert "kiket-worker dev env" in message


def test_an_empty_optional_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES - set(REQUIRED):
        monkeypatch.setenv(name, "")
    settings = load_settings()
    assert settings.dbt_port is None
    assert settings.dbt_shared_schema == "analytics_shared"
    assert settings.tick_interval_seconds == 30


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", f"mysql://kiket:{SECRET}@localhost/kiket"),
        ("DATABASE_URL", f"kiket:{SECRET}@localhost"),
        ("DATABASE_URL", f"postgresql:/kiket:{SECRET}@localhost"),
        ("DATABASE_URL", "postgresql://"),
        ("RABBITMQ_URL", f"http://kiket:{SECRET}@localhost"),
        ("RABBITMQ_URL", "amqp://"),
        ("RABBITMQ_URL", "memory"),
        ("ARTIFACTS_URL", "s3://"),
        ("ARTIFACTS_URL", "s3:///prefix"),
        ("ARTIFACTS_URL", "s3://["),
        ("ARTIFACTS_URL", "/var/artifacts"),
        ("ARTIFACTS_URL", "file:artifacts"),
        ("ARTIFACTS_URL", "file://artifacts"),
        ("ARTIFACTS_URL", "file://host/artifacts"),
        ("ARTIFACTS_URL", f"https://kiket:{SECRET}@bucket"),
        ("DBT_PORT", "0"),
        ("DBT_PORT", "65536"),
        ("DBT_PORT", "5432.5"),
        ("DBT_SHARED_SCHEMA", "Shared"),
        ("DBT_SHARED_SCHEMA", 'shared"; drop schema public'),
        ("DBT_SHARED_SCHEMA", "s" * 64),
        ("KIKET_CONCURRENCY", "0"),
        ("KIKET_CONCURRENCY", "65"),
        ("KIKET_CONCURRENCY", "many"),
        ("KIKET_TICK_INTERVAL_SECONDS", "0"),
        ("KIKET_TICK_INTERVAL_SECONDS", "-1"),
        ("KIKET_TICK_INTERVAL_SECONDS", "nan"),
        ("KIKET_TICK_INTERVAL_SECONDS", "inf"),
        ("KIKET_REPUBLISH_AFTER_SECONDS", "0"),
        ("KIKET_REPUBLISH_AFTER_SECONDS", "1e300"),
        ("KIKET_LEASE_TTL_SECONDS", "0.5"),
        ("KIKET_LEASE_TTL_SECONDS", "inf"),
        ("KIKET_RUN_TIME_LIMIT_SECONDS", "0"),
        ("KIKET_RUN_TIME_LIMIT_SECONDS", "1 h"),
        ("KIKET_RUN_TIME_LIMIT_SECONDS", "inf"),
        ("KIKET_S3_ENCRYPTION", "AES128"),
        ("KIKET_S3_STORAGE_CLASS", "standard ia"),
        ("KIKET_ISOLATION", "none"),
        ("KIKET_TENANT_KEYS", SECRET),
        ("KIKET_TENANT_KEYS", f"1:{SECRET}"),
        ("KIKET_TENANT_CONNECTIONS", "2"),
        ("KIKET_TENANT_CONNECTIONS", "-1"),
        ("KIKET_TENANT_STATEMENT_SECONDS", "0"),
        ("KIKET_TENANT_STATEMENT_SECONDS", "86401"),
        ("KIKET_TENANT_STATEMENT_SECONDS", "1.5"),
        ("KIKET_TENANT_IDLE_SECONDS", "0"),
        ("KIKET_TENANT_TEMP_MEGABYTES", "0"),
        ("KIKET_TENANT_TEMP_MEGABYTES", "-1"),
        ("KIKET_TENANT_QUOTA_MEGABYTES", "0"),
        ("KIKET_SHARED_INTERVAL_HOURS", "0"),
        ("KIKET_CHANGELOG_INTERVAL_HOURS", "-1"),
        ("KIKET_CHANGELOG_INTERVAL_HOURS", "8761"),
        ("KIKET_CHANGELOG_INTERVAL_HOURS", "daily"),
        ("KIKET_METRICS_ADDRESS", "9464"),
        ("KIKET_METRICS_ADDRESS", "localhost"),
        ("KIKET_METRICS_ADDRESS", ":65536"),
        ("KIKET_METRICS_ADDRESS", "::1:9464"),
        ("KIKET_METRICS_ADDRESS", "http://localhost:9464"),
    ],
)
def test_a_wrong_value_is_refused_by_its_variables_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert refusal().startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "postgres://localhost/kiket"),
        ("RABBITMQ_URL", "amqps://localhost"),
        ("ARTIFACTS_URL", "s3://bucket"),
        ("ARTIFACTS_URL", "file:///var/lib/kiket/artifacts"),
        ("KIKET_CONCURRENCY", "64"),
        ("DBT_PORT", "65535"),
        ("KIKET_S3_ENCRYPTION", "AES256"),
        ("KIKET_S3_ENCRYPTION", "aws:kms"),
        ("KIKET_S3_ENCRYPTION", "aws:kms:dsse"),
        ("KIKET_S3_STORAGE_CLASS", "STANDARD_IA"),
        ("KIKET_ISOLATION", "roles"),
        ("KIKET_ISOLATION", "shared"),
        ("KIKET_TENANT_KEYS", f"1:{SECRET}{SECRET}{SECRET}"),
        ("KIKET_TENANT_KEYS", f"1:{SECRET}{SECRET}{SECRET},2:{SECRET}{SECRET}{SECRET}"),
        ("KIKET_TENANT_CONNECTIONS", "3"),
        ("KIKET_GATES_FILE", "/etc/kiket/gates.toml"),
        ("KIKET_METRICS_ADDRESS", ":9464"),
        ("KIKET_METRICS_ADDRESS", "localhost:9464"),
        ("KIKET_METRICS_ADDRESS", "[::1]:9464"),
    ],
)
def test_every_documented_form_is_taken(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    load_settings()


@pytest.mark.parametrize("name", ["DATABASE_URL", "RABBITMQ_URL", "KIKET_TENANT_KEYS", "DBT_PASSWORD"])
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_secret_may_be_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, end: str) -> None:
    secret = {"DATABASE_URL": "postgresql://x:y@z/k ", "RABBITMQ_URL": "amqp://x:y@z"}.get(name, f"1:{SECRET * 4}")
    (tmp_path / "secret").write_bytes(f"{secret}{end}".encode())
    monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(f"{name}_FILE", str(tmp_path / "secret"))
    values = {str(field.alias): name for name, field in Settings.model_fields.items()}
    assert getattr(load_settings(), values[name]).get_secret_value() == secret


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "cannot be read: No such file"), (b"", "is empty"), (b"\n", "is empty"), (b"\xff", "no text in UTF-8")],
)
def test_a_file_without_a_secret_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, words: str
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.setenv("DATABASE_URL_FILE", str(path))
    assert refusal().startswith(f"DATABASE_URL_FILE: {path}")
    assert words in refusal()


def test_what_a_file_holds_is_checked_and_not_repeated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    monkeypatch.delenv("RABBITMQ_URL")
    monkeypatch.setenv("RABBITMQ_URL_FILE", str(tmp_path / "secret"))
    assert refusal().startswith("RABBITMQ_URL: must be a URL")


def test_a_secret_that_is_given_twice_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATABASE_URL_FILE", str(tmp_path / "secret"))
    assert refusal().startswith("DATABASE_URL and DATABASE_URL_FILE are both set")


def test_memory_means_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RABBITMQ_URL", "memory://")
    assert load_settings().in_one_process


def test_no_secret_is_printed_with_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBT_PASSWORD", SECRET)
    monkeypatch.setenv("KIKET_TENANT_KEYS", f"1:{SECRET}{SECRET}{SECRET}")
    settings = load_settings()
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings)
    assert SECRET not in settings.model_dump_json()
    assert settings.dbt_password is not None
    assert settings.dbt_password.get_secret_value() == SECRET


def test_organisations_are_kept_apart_by_roles_unless_somebody_says_otherwise() -> None:
    assert load_settings().isolation is IsolationMode.ROLES


def test_env_example_lists_every_variable_and_no_other() -> None:
    listed = re.findall(r"^#?([A-Z][A-Z0-9_]*)=", ENV_EXAMPLE.read_text(), flags=re.MULTILINE)
    # What boto3 and the OpenTelemetry SDK read by themselves.
    others = {name for name in listed if name.startswith(("AWS_", "OTEL_"))} - VARIABLES
    assert set(listed) - others == VARIABLES
    assert len(listed) == len(set(listed))


def test_env_example_shows_the_defaults() -> None:
    shown = dict(re.findall(r"^#([A-Z][A-Z0-9_]*)=(.*)$", ENV_EXAMPLE.read_text(), flags=re.MULTILINE))
    for field in Settings.model_fields.values():
        if not field.is_required() and field.default is not None:
            assert shown[str(field.alias)] == str(field.default)
