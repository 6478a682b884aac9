"""How dbt is told where Postgres is, and how it is told the password: by libpq's password file and nowhere else."""

import stat
from pathlib import Path

import pytest

from kiket_worker.dbt.connection import DbtConnection
from kiket_worker.errors import InvalidSetting
from kiket_worker.settings import Settings

URL = "postgresql://app:s%3Acr%5Cet@db.example:6543/kiket?sslmode=verify-full&sslrootcert=/etc/ca.pem"


def settings(monkeypatch: pytest.MonkeyPatch, url: str = URL, **variables: str) -> Settings:
    required = {"RABBITMQ_URL": "memory://", "ARTIFACTS_URL": "file:///tmp/x"}
    for name, value in ({"DATABASE_URL": url} | required | variables).items():
        monkeypatch.setenv(name, value)
    return Settings()


def test_everything_comes_from_the_url_where_nothing_else_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = DbtConnection.from_settings(settings(monkeypatch))
    assert connection == DbtConnection(
        "db.example", 6543, "kiket", "app", "s:cr\\et", {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": "/etc/ca.pem"}
    )


def test_each_part_has_a_variable_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {
        "DBT_HOST": "pooler",
        "DBT_PORT": "1",
        "DBT_DATABASE": "other",
        "DBT_USER": "dbt",
        "DBT_PASSWORD": "own",
    }
    connection = DbtConnection.from_settings(settings(monkeypatch, **variables))
    assert (connection.host, connection.port, connection.database) == ("pooler", 1, "other")
    assert (connection.user, connection.password) == ("dbt", "own")


def test_a_socket_folder_is_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = DbtConnection.from_settings(settings(monkeypatch, "postgresql://me@/kiket?host=%2Frun%2Fpg"))
    assert (connection.host, connection.port, connection.password) == ("/run/pg", 5432, "")


def test_what_the_url_leaves_out_comes_from_libpqs_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"PGHOST": "/run/pg", "PGPORT": "77", "PGUSER": "me", "PGPASSWORD": "hush", "PGDATABASE": "other"}
    bare = DbtConnection.from_settings(settings(monkeypatch, "postgresql:///kiket", **variables))
    assert bare == DbtConnection("/run/pg", 77, "kiket", "me", "hush")


def test_what_nobody_names_is_what_libpq_would_take(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("PGHOST", "PGHOSTADDR", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGSERVICE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PGPASSFILE", "/dev/null")
    connection = DbtConnection.from_settings(settings(monkeypatch, "postgresql://me@/"))
    assert connection.host.startswith("/")  # The folder of its socket, and not "localhost".
    assert (connection.port, connection.database, connection.user, connection.password) == (5432, "me", "me", "")


def test_several_ports_are_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidSetting, match="set DBT_HOST and DBT_PORT"):
        DbtConnection.from_settings(settings(monkeypatch, "postgresql://a:1,b:2/kiket"))


@pytest.mark.parametrize(
    ("password", "escaped"),
    [("plain", "plain"), ("a:b\\c", "a\\:b\\\\c"), ("\\:", "\\\\\\:"), ("pässwört 🔑", "pässwört 🔑"), ("", "")],
)
def test_the_password_file_is_the_owners_and_escaped_as_libpq_reads_it(
    tmp_path: Path, password: str, escaped: str
) -> None:
    path = tmp_path / "pgpass"
    DbtConnection("h", 1, "d", "u", password).write_passfile(path)
    assert path.read_text(encoding="utf-8") == f"*:*:*:*:{escaped}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_password_is_neither_in_the_environment_nor_in_print(tmp_path: Path) -> None:
    connection = DbtConnection("h", 1, "d", "u", "hush-hush")
    assert "hush-hush" not in repr(connection) + repr(connection.environment(tmp_path / "pgpass"))


def test_an_organisation_logs_in_to_the_same_database_as_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    own = DbtConnection.from_settings(settings(monkeypatch))
    tenant = own.logged_in_as("analytics_org_acme", "hush-hush")
    assert (tenant.user, tenant.password) == ("analytics_org_acme", "hush-hush")
    assert tenant.address == own.address
    assert tenant.libpq == own.libpq
    assert own.user == "app", "the worker's own stays as it is"
    assert "hush-hush" not in repr(tenant) + repr(tenant.environment(Path("/pgpass")))


def test_the_address_says_where_the_database_is_and_not_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = DbtConnection.from_settings(settings(monkeypatch, URL + "&channel_binding=require&application_name=x"))
    assert connection.address == {
        "host": "db.example",
        "port": "6543",
        "dbname": "kiket",
        "sslmode": "verify-full",
        "sslrootcert": "/etc/ca.pem",
        "channel_binding": "require",
    }
    variables = {"DBT_HOST": "pooler", "DBT_PORT": "1", "DBT_DATABASE": "other"}
    elsewhere = DbtConnection.from_settings(settings(monkeypatch, "postgresql://me:x@/kiket?host=%2Frun", **variables))
    assert elsewhere.address == {"host": "pooler", "port": "1", "dbname": "other"}
