"""Every environment variable that the worker reads, with its default and unit."""

import re
from decimal import Decimal
from enum import StrEnum
from importlib import metadata
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from kiket_worker.errors import InvalidSetting


def _with_scheme(*schemes: str) -> AfterValidator:
    """Check that a URL has one of the schemes; the URL may hold a password, so it is not repeated in the error."""

    def check(value: SecretStr) -> SecretStr:
        scheme, separator, rest = value.get_secret_value().partition("://")
        if not separator or scheme not in schemes or not (rest or scheme == "memory"):
            raise ValueError(f"must be a URL that begins with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        return value

    return AfterValidator(check)


def _is_artifacts_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme == "file" and parts.path.startswith("/") and not parts.netloc:
        return value
    if parts.scheme == "s3" and parts.netloc:
        return value
    raise ValueError("must be s3://bucket/prefix or file:///directory")


def _is_http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be a URL that begins with http:// or https://, as http://collector:4318")
    return value


# A version, and a secret as long as what `openssl rand -base64 32` prints.
_TENANT_KEY = re.compile(r"([1-9][0-9]{0,5}):([A-Za-z0-9+/=_-]{32,512})")


def tenant_keys(text: str) -> dict[int, str]:
    """The secrets of `KIKET_TENANT_KEYS` by their versions. Raises `ValueError`, which repeats none of them."""
    found = [_TENANT_KEY.fullmatch(entry.strip()) for entry in text.split(",")]
    keys = {int(match[1]): match[2] for match in found if match}
    if len(keys) != len(found):
        raise ValueError(
            "must be VERSION:SECRET, or several of these with commas between them, each with a version of its own and "
            "a secret of 32 characters or more, as `openssl rand -base64 32` prints"
        )
    return keys


def _has_tenant_keys(value: SecretStr) -> SecretStr:
    tenant_keys(value.get_secret_value())
    return value


# A host is a name, an IPv4 address, or an IPv6 address in brackets; without one, every address of the machine.
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\s:\[\]/@]*):([0-9]{1,5})")


def host_and_port(address: str) -> tuple[str, int]:
    """The parts of a `HOST:PORT`; port 0 is any that is free. Raises `ValueError`."""
    found = _ADDRESS.fullmatch(address)
    if found is None or int(found[2]) > 65535:
        raise ValueError("must be HOST:PORT or :PORT")
    return found[1].strip("[]"), int(found[2])


def _is_address(value: str) -> str:
    host_and_port(value)
    return value


def _has_networks(value: str) -> str:
    for entry in value.split(","):
        ip_network(entry.strip())  # its ValueError says which entry it is
    return value


# A metric's name, and cents with up to six places.
_PRICE = re.compile(r"([a-z][a-z0-9_]{0,99})=([0-9]{1,9}(?:\.[0-9]{1,6})?)")


def prices(text: str) -> dict[str, Decimal]:
    """The cents for a unit of each metric in `KIKET_PRICES`. Raises `ValueError`."""
    found = [_PRICE.fullmatch(entry.strip()) for entry in text.split(",")] if text else []
    by_metric = {match[1]: Decimal(match[2]) for match in found if match}
    if len(by_metric) != len(found):
        raise ValueError("must be METRIC=CENTS, or several with commas between them, as analytics_dbt_run=0.25")
    return by_metric


def _has_prices(value: str) -> str:
    prices(value)
    return value


class IsolationMode(StrEnum):
    """Who keeps organisations apart: a database role for each, or only the filters of the models."""

    ROLES = "roles"
    SHARED = "shared"


class EngineName(StrEnum):
    """How dbt is run: recorded once and replayed, or as a child process each time."""

    REPLAY = "replay"
    EXECUTABLE = "executable"


class Publish(StrEnum):
    """What a run publishes of which a model fails: nothing, or what does not wait for that model, as dbt does."""

    WHOLE = "whole"
    PARTIAL = "partial"


class S3Encryption(StrEnum):
    """With whose key S3 encrypts what it keeps, in S3's own words."""

    S3 = "AES256"
    KMS = "aws:kms"
    KMS_DOUBLE = "aws:kms:dsse"


# Secrets that a file may hold, named by the variable with this behind its name: how orchestrators hand them over. What
# boto3 needs is read by boto3 itself, from files too (AWS_SHARED_CREDENTIALS_FILE, AWS_WEB_IDENTITY_TOKEN_FILE).
_IN_FILES = ("DATABASE_URL", "RABBITMQ_URL", "KIKET_TENANT_KEYS", "DBT_PASSWORD")


def _from_file(variable: str, path: Path) -> str:
    try:
        # One newline at the end is the editor's; blanks may belong to a password.
        text = path.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ValueError(f"{variable}_FILE: {path} is no text in UTF-8") from None
    except OSError as fault:
        raise ValueError(f"{variable}_FILE: {path} cannot be read: {fault.strerror}") from None
    if not text:
        raise ValueError(f"{variable}_FILE: {path} is empty")
    return text


# Finite, and within what a thread can be told to wait.
_Seconds = Annotated[float, Field(gt=0, le=30 * 24 * 3600)]


class Settings(BaseSettings):
    """The environment, checked. Secrets are wrapped, so that printing settings shows none."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    database_url: Annotated[SecretStr, _with_scheme("postgresql", "postgres")] = Field(alias="DATABASE_URL")
    rabbitmq_url: Annotated[SecretStr, _with_scheme("amqp", "amqps", "memory")] = Field(alias="RABBITMQ_URL")
    artifacts_url: Annotated[str, AfterValidator(_is_artifacts_url)] = Field(alias="ARTIFACTS_URL")

    database_url_file: Path | None = Field(None, alias="DATABASE_URL_FILE")
    rabbitmq_url_file: Path | None = Field(None, alias="RABBITMQ_URL_FILE")
    tenant_keys_file: Path | None = Field(None, alias="KIKET_TENANT_KEYS_FILE")
    dbt_password_file: Path | None = Field(None, alias="DBT_PASSWORD_FILE")

    s3_encryption: S3Encryption | None = Field(None, alias="KIKET_S3_ENCRYPTION")
    s3_kms_key: str | None = Field(None, alias="KIKET_S3_KMS_KEY")
    # Not a list: stores other than Amazon's have classes of their own.
    s3_storage_class: str | None = Field(None, alias="KIKET_S3_STORAGE_CLASS", pattern=r"^[A-Z][A-Z0-9_]*$")

    dbt_host: str | None = Field(None, alias="DBT_HOST")
    dbt_port: int | None = Field(None, alias="DBT_PORT", ge=1, le=65535)
    dbt_database: str | None = Field(None, alias="DBT_DATABASE")
    dbt_user: str | None = Field(None, alias="DBT_USER")
    dbt_password: SecretStr | None = Field(None, alias="DBT_PASSWORD")
    dbt_shared_schema: str = Field("analytics_shared", alias="DBT_SHARED_SCHEMA", pattern=r"^[a-z][a-z0-9_]{0,62}$")

    isolation: IsolationMode = Field(IsolationMode.ROLES, alias="KIKET_ISOLATION")
    tenant_keys: Annotated[SecretStr, AfterValidator(_has_tenant_keys)] | None = Field(None, alias="KIKET_TENANT_KEYS")
    gates_file: Path | None = Field(None, alias="KIKET_GATES_FILE")
    tenant_connections: int = Field(8, alias="KIKET_TENANT_CONNECTIONS", ge=3, le=1000)
    tenant_statement_seconds: int = Field(900, alias="KIKET_TENANT_STATEMENT_SECONDS", ge=1, le=86_400)
    tenant_idle_seconds: int = Field(60, alias="KIKET_TENANT_IDLE_SECONDS", ge=1, le=86_400)
    tenant_temp_megabytes: int = Field(2048, alias="KIKET_TENANT_TEMP_MEGABYTES", ge=1, le=1_000_000)
    tenant_quota_megabytes: int = Field(10_240, alias="KIKET_TENANT_QUOTA_MEGABYTES", ge=1, le=1_000_000_000)
    shared_interval_hours: int = Field(24, alias="KIKET_SHARED_INTERVAL_HOURS", ge=1, le=8760)

    dbt_executable: Path = Field(Path("dbt"), alias="KIKET_DBT_EXECUTABLE")
    dbt_engine: EngineName | None = Field(None, alias="KIKET_DBT_ENGINE")
    dbt_has_telemetry: bool = Field(default=False, alias="KIKET_DBT_HAS_TELEMETRY")
    dbt_command: Literal["run", "build"] = Field("run", alias="KIKET_DBT_COMMAND")
    shadow_check_share: float = Field(0.002, alias="KIKET_SHADOW_CHECK_SHARE", ge=0, le=1)
    publish: Publish = Field(Publish.WHOLE, alias="KIKET_PUBLISH")
    concurrency: int = Field(2, alias="KIKET_CONCURRENCY", ge=1, le=64)
    tick_interval_seconds: _Seconds = Field(30, alias="KIKET_TICK_INTERVAL_SECONDS")
    republish_after_seconds: _Seconds = Field(900, alias="KIKET_REPUBLISH_AFTER_SECONDS")
    lease_ttl_seconds: _Seconds = Field(30, alias="KIKET_LEASE_TTL_SECONDS", ge=1)
    grace_seconds: _Seconds = Field(25, alias="KIKET_GRACE_SECONDS")
    max_attempts: int = Field(5, alias="KIKET_MAX_ATTEMPTS", ge=1, le=100)
    max_crashes: int = Field(3, alias="KIKET_MAX_CRASHES", ge=1, le=100)
    outbox_interval_seconds: _Seconds = Field(1, alias="KIKET_OUTBOX_INTERVAL_SECONDS")
    retry_base_seconds: _Seconds = Field(5, alias="KIKET_RETRY_BASE_SECONDS")
    run_log_megabytes: int = Field(32, alias="KIKET_RUN_LOG_MEGABYTES", ge=1, le=10_000)
    run_time_limit_seconds: _Seconds = Field(1800, alias="KIKET_RUN_TIME_LIMIT_SECONDS")
    validation_time_limit_seconds: _Seconds = Field(300, alias="KIKET_VALIDATION_TIME_LIMIT_SECONDS", le=1800)
    changelog_interval_hours: int = Field(0, alias="KIKET_CHANGELOG_INTERVAL_HOURS", ge=0, le=8760)
    changelog_output: Path | None = Field(None, alias="KIKET_CHANGELOG_OUTPUT")
    metrics_address: Annotated[str, AfterValidator(_is_address)] | None = Field(None, alias="KIKET_METRICS_ADDRESS")
    console_address: Annotated[str, AfterValidator(_is_address)] = Field(
        "127.0.0.1:8080", alias="KIKET_CONSOLE_ADDRESS"
    )
    console_proxies: Annotated[str, AfterValidator(_has_networks)] | None = Field(None, alias="KIKET_CONSOLE_PROXIES")
    console_streams: int = Field(100, alias="KIKET_CONSOLE_STREAMS", ge=1, le=10_000)
    prices_text: Annotated[str, AfterValidator(_has_prices)] | None = Field(None, alias="KIKET_PRICES")

    # Read by the OpenTelemetry SDK itself, like the other OTEL_* variables; here only what decides whether it is used.
    otel_endpoint: Annotated[str, AfterValidator(_is_http_url)] | None = Field(
        None, alias="OTEL_EXPORTER_OTLP_ENDPOINT"
    )
    otel_logs_endpoint: Annotated[str, AfterValidator(_is_http_url)] | None = Field(
        None, alias="OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"
    )
    otel_traces_endpoint: Annotated[str, AfterValidator(_is_http_url)] | None = Field(
        None, alias="OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
    )
    otel_protocol: Literal["http/protobuf"] = Field("http/protobuf", alias="OTEL_EXPORTER_OTLP_PROTOCOL")
    otel_logs_exporter: Literal["otlp", "none"] = Field("otlp", alias="OTEL_LOGS_EXPORTER")
    otel_traces_exporter: Literal["otlp", "none"] = Field("otlp", alias="OTEL_TRACES_EXPORTER")
    otel_log_queue_size: int = Field(2048, alias="OTEL_BLRP_MAX_QUEUE_SIZE", ge=512, le=1_000_000)
    otel_span_queue_size: int = Field(2048, alias="OTEL_BSP_MAX_QUEUE_SIZE", ge=512, le=1_000_000)

    @model_validator(mode="before")
    @classmethod
    def _read_files(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Put what files hold in the place of the variables. Nothing of a file's content is repeated in an error."""
        read = {}
        for variable in _IN_FILES:
            if path := values.get(f"{variable}_FILE"):
                if values.get(variable):
                    raise ValueError(f"{variable} and {variable}_FILE are both set: leave one of them out")
                read[variable] = _from_file(variable, Path(path))
        return values | read

    @property
    def prices(self) -> dict[str, Decimal]:
        """What a unit of a metric costs, in cents; a metric that is not here has no price."""
        return prices(self.prices_text or "")

    @property
    def exports_logs(self) -> bool:
        """Whether log records go to a collector."""
        return bool(self.otel_endpoint or self.otel_logs_endpoint) and self.otel_logs_exporter == "otlp"

    @property
    def exports_traces(self) -> bool:
        """Whether spans go to a collector."""
        return bool(self.otel_endpoint or self.otel_traces_endpoint) and self.otel_traces_exporter == "otlp"

    @property
    def engine(self) -> EngineName:
        """The engine that is named; else replay, where dbt-core can be recorded and no other dbt is named."""
        if self.dbt_engine is not None:
            return self.dbt_engine
        can_record = self.dbt_executable == Path("dbt") and any(metadata.distributions(name="dbt-core"))
        return EngineName.REPLAY if can_record else EngineName.EXECUTABLE

    @property
    def in_one_process(self) -> bool:
        """Whether ticker and worker share this process, with no RabbitMQ between them."""
        return self.rabbitmq_url.get_secret_value().startswith("memory://")


def load_settings() -> Settings:
    """Read the environment. Raises `InvalidSetting`, which names each variable that is missing or malformed."""
    return settings_from({})


def settings_from(values: dict[str, Any]) -> Settings:
    """Read the environment, with these values in place of its variables. Raises `InvalidSetting`."""
    try:
        return Settings.model_validate(values)
    except ValidationError as fault:
        complaints = [_explain(error["loc"], error["type"], error["msg"]) for error in fault.errors()]
        raise InvalidSetting(
            "; ".join(complaints) + ". `.env.example` explains each variable; "
            "`kiket-worker dev env` prints those of the development services"
        ) from None


def _explain(where: tuple[int | str, ...], kind: str, message: str) -> str:
    said = message.removeprefix("Value error, ")
    if not where:  # Of more than one variable, which it names.
        return said
    return f"{where[0]} is not set" if kind == "missing" else f"{where[0]}: {said}"
