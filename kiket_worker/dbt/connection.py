"""How dbt reaches Postgres: the `DBT_*` variables, or the parts of `DATABASE_URL` where they are not set."""

from dataclasses import dataclass, field
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

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
        """Each part from its own variable, or else from `DATABASE_URL`. Raises `InvalidSetting`."""
        url = {name: str(value) for name, value in conninfo_to_dict(settings.database_url.get_secret_value()).items()}
        user = settings.dbt_user or url.get("user", "postgres")
        password = settings.dbt_password.get_secret_value() if settings.dbt_password else url.get("password", "")
        return cls(
            host=settings.dbt_host or url.get("host", "localhost"),
            port=settings.dbt_port or _one_port(url.get("port") or "5432"),
            database=settings.dbt_database or url.get("dbname", user),
            user=user,
            password=password,
            libpq={variable: url[name] for name, variable in _LIBPQ_VARIABLES.items() if name in url},
        )

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


def _one_port(text: str) -> int:
    if not text.isdecimal():
        raise InvalidSetting(f"DATABASE_URL has the ports {text!r}, and dbt takes one: set DBT_HOST and DBT_PORT")
    return int(text)
