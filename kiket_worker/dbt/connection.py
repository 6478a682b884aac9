"""How dbt reaches Postgres: the `DBT_*` variables, or the parts of `DATABASE_URL` where they are not set."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import PGconn

from kiket_worker.errors import InvalidSetting
from kiket_worker.settings import Settings

# Parts of a connection URL that libpq reads from the environment just as well; dbt's profile has no place for them.
_LIBPQ_VARIABLES = {
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "channel_binding": "PGCHANNELBINDING",
}


@dataclass(frozen=True)
class DbtConnection:
    """Where and as whom dbt connects."""

    host: str
    port: int
    database: str
    user: str
    password: str = field(repr=False)
    libpq: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_settings(cls, settings: Settings) -> "DbtConnection":
        """Each part from its own variable, or else from `DATABASE_URL`, or else what libpq takes without it.

        Raises `InvalidSetting`.
        """
        url = {name: str(value) for name, value in conninfo_to_dict(settings.database_url.get_secret_value()).items()}
        own = {"host": settings.dbt_host, "dbname": settings.dbt_database, "user": settings.dbt_user}
        parts = url | {name: value for name, value in own.items() if value}
        if not {"host", "dbname", "user"} <= parts.keys():
            parts = _libpqs_defaults(parts) | parts
        if missing := sorted({"host", "dbname", "user"} - parts.keys()):
            raise InvalidSetting(f"DATABASE_URL has no {', '.join(missing)}, and libpq knows no default")
        return cls(
            host=parts["host"],
            port=settings.dbt_port or _one_port(parts.get("port") or "5432"),
            database=parts["dbname"],
            user=parts["user"],
            password=settings.dbt_password.get_secret_value() if settings.dbt_password else parts.get("password", ""),
            libpq={variable: url[name] for name, variable in _LIBPQ_VARIABLES.items() if name in url},
        )

    @property
    def address(self) -> dict[str, str]:
        """Where the database is, in libpq's words: for whoever connects to it without dbt."""
        options = {name: self.libpq[variable] for name, variable in _LIBPQ_VARIABLES.items() if variable in self.libpq}
        return {"host": self.host, "port": str(self.port), "dbname": self.database} | options

    def logged_in_as(self, user: str, password: str) -> "DbtConnection":
        """The same database, as somebody else."""
        return replace(self, user=user, password=password)

    def environment(self, passfile: Path) -> dict[str, str]:
        """The variables that dbt's profile and libpq read. The password is not among them.

        Jinja in a model may print any environment variable, and a process's environment is read by whoever runs as
        its user; so the password goes into libpq's password file, which dbt's Jinja cannot open.
        """
        return self.libpq | {
            "DBT_HOST": self.host,
            "DBT_PORT": str(self.port),
            "DBT_DATABASE": self.database,
            "DBT_USER": self.user,
            "PGPASSFILE": str(passfile),
        }

    def write_passfile(self, path: Path) -> None:
        """Write libpq's password file (PostgreSQL manual, 32.16), readable by its owner only."""
        path.touch(mode=0o600)
        password = self.password.replace("\\", "\\\\").replace(":", "\\:")
        path.write_text(f"*:*:*:*:{password}\n", encoding="utf-8")


def _libpqs_defaults(parts: dict[str, str]) -> dict[str, str]:
    """What libpq puts in the place of parts that are missing: `PG*` variables, its socket's folder, the login's name.

    It says so once a connection is begun, of which nothing more is needed: it is closed before anybody answers.
    """
    connection = PGconn.connect_start(make_conninfo("", **parts).encode())
    try:
        found = {
            "host": connection.host,
            "port": connection.port,
            "dbname": connection.db,
            "user": connection.user,
            "password": connection.password,
        }
        return {name: value.decode() for name, value in found.items() if value}
    finally:
        connection.finish()


def _one_port(text: str) -> int:
    if not text.isdecimal():
        raise InvalidSetting(f"DATABASE_URL has the ports {text!r}, and dbt takes one: set DBT_HOST and DBT_PORT")
    return int(text)
