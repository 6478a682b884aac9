"""An installation with roles in a test's own database: organisations, and sessions of whoever works in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow, dict_row

from kiket_worker.ledger import leases
from kiket_worker.ledger.database import Database
from kiket_worker.tenants.keys import TenantKeys
from kiket_worker.tenants.provisioning import Candidate, Limits, Provisioner
from kiket_worker.tenants.schema import reader_name, schema_name
from tests.support.tenants import KEYS, settings_of


@dataclass
class Installation:
    """A database with roles and gates. `database` is a superuser's way to it, `ledger` the worker's own."""

    database: Any
    ledger_url: str
    ledger: Database
    made: list[str] = field(default_factory=list)

    @classmethod
    @contextmanager
    def of(cls, database: Any) -> Iterator["Installation"]:
        """Set up roles; the tenants of organisations that were added are gone afterwards.

        Roles outlive the database of a test, so that those of the sample's organisations may be there from before.
        """
        ledger_url = database.with_roles()
        with Database(ledger_url, max_connections=8) as ledger:
            made = cls(database, ledger_url, ledger)
            try:
                yield made
            finally:
                made.forget()

    def add(self, slug: str | None = None) -> Candidate:
        """A new organisation, opted in, whose roles nobody has made before if the slug is left to chance."""
        slug = slug or f"t-{uuid4().hex[:10]}"
        row = self.rows("select max(id) + 1 as id from public.organizations")[0]
        self.execute("insert into public.organizations values (%s, %s, %s, 'team', now())", row["id"], slug, slug)
        self.execute("insert into kiket_analytics.analytics_settings values (%s, true)", row["id"])
        self.made.append(slug)
        return Candidate(row["id"], slug)

    def forget(self) -> None:
        for slug in self.made:
            for role in (schema_name(slug), reader_name(slug)):
                if self.rows("select from pg_roles where rolname = %s", role):
                    self.execute(f"drop owned by {role} cascade; drop role {role}")

    def provisioner(self, keys: TenantKeys = KEYS, **variables: object) -> Provisioner:
        return Provisioner(keys, Limits.from_settings(settings_of(self.ledger_url, **variables)))

    def provision(self, candidate: Candidate, keys: TenantKeys = KEYS, **variables: object) -> None:
        with self.ledger.transaction() as connection:
            self.provisioner(keys, **variables).provision(connection, candidate)

    def drift(self, candidate: Candidate, keys: TenantKeys = KEYS, **variables: object) -> set[str]:
        with self.ledger.transaction() as connection:
            return set(self.provisioner(keys, **variables).drift(connection, candidate))

    def connect(self, role: str, password: str, **options: str) -> psycopg.Connection[DictRow]:
        """A session of a role, each statement committed at once."""
        parts = conninfo_to_dict(self.ledger_url)
        return psycopg.connect(
            host=parts["host"],
            dbname=parts["dbname"],
            user=role,
            password=password,
            autocommit=True,
            row_factory=dict_row,
            **options,
        )

    def tenant(self, slug: str, *, keys: TenantKeys = KEYS, version: int | None = None) -> psycopg.Connection[DictRow]:
        """A session of an organisation's own role."""
        role = schema_name(slug)
        return self.connect(role, keys.password(role, version or keys.current))

    def reader(self, slug: str) -> psycopg.Connection[DictRow]:
        """A session of its read-only twin."""
        return self.connect(reader_name(slug), KEYS.password(reader_name(slug), KEYS.current))

    def lease(self, candidate: Candidate) -> int:
        """Hold an organisation's lease as if a worker refreshed it; its epoch."""
        rows = self.ledger.rows(
            b"insert into kiket_analytics.leases as lease (schema_name, organization_id, worker, expires_at)"
            b" values (%(schema)s, %(id)s, 'another', now() + interval '10 minutes')"
            b" on conflict (schema_name) do update set epoch = lease.epoch + 1, worker = 'another',"
            b" expires_at = excluded.expires_at returning epoch",
            {"schema": schema_name(candidate.slug), "id": candidate.organization_id},
        )
        return int(rows[0]["epoch"])

    def release(self, candidate: Candidate, epoch: int) -> None:
        leases.release_schema(self.ledger, schema_name(candidate.slug), epoch)

    def rows(self, query: str, *parameters: object) -> list[DictRow]:
        """As a superuser."""
        found: list[DictRow] = self.database.rows(query, *parameters)
        return found

    def execute(self, text: str, *parameters: object) -> None:
        """As a superuser."""
        with self.database.connect() as connection:
            connection.execute(text.encode(), parameters or None)

    def execute_as(self, connection: psycopg.Connection[DictRow], text: str) -> list[DictRow]:
        cursor = connection.execute(sql.SQL(text))
        return cursor.fetchall() if cursor.description else []


# Everything about rights and owners that a database and its server know, but for passwords.
_CATALOGS = (
    "select to_jsonb(r) - 'oid' as row from pg_roles as r where rolname ~ '^(analytics|kiket)_'",
    "select jsonb_build_array(roleid::regrole, member::regrole, inherit_option, set_option, admin_option) as row"
    " from pg_auth_members",
    "select to_jsonb(d.datacl::text) as row from pg_database as d where datname = current_database()",
    "select jsonb_build_array(nspname, nspowner::regrole, nspacl::text) as row from pg_namespace"
    " where nspname !~ '^pg_'",
    # Without any grant, the rights of an owner stand for themselves; after one was taken back, they are written out.
    "select jsonb_build_array(oid::regclass, relkind, relowner::regrole,"
    " (select array_agg(acl::text order by acl::text) from unnest("
    "coalesce(relacl, acldefault(case relkind when 'S' then 's' else 'r' end::\"char\", relowner))) as acl),"
    " reloptions::text, case when relkind = 'v' then pg_get_viewdef(oid) end) as row from pg_class"
    " where relnamespace <> 'pg_toast'::regnamespace and relpersistence <> 't' and relkind <> 'i'",
    "select jsonb_build_array(attrelid::regclass, attname, attacl::text) as row from pg_attribute"
    " where attacl is not null",
    "select jsonb_build_array(oid::regprocedure, proowner::regrole, proacl::text, prosrc, prosecdef, proconfig::text)"
    " as row from pg_proc where proacl is not null",
    "select jsonb_build_array(defaclrole::regrole, defaclnamespace::regnamespace, defaclobjtype, defaclacl::text)"
    " as row from pg_default_acl",
    "select jsonb_build_array(setdatabase, setrole::regrole, setconfig::text) as row from pg_db_role_setting",
    "select jsonb_build_array(parname, paracl::text) as row from pg_parameter_acl",
    "select to_jsonb(g) as row from kiket_analytics.gates as g",
    "select to_jsonb(r) - 'applied_at' as row from kiket_analytics.roles as r",
    "select to_jsonb(t) - 'provisioned_at' as row from kiket_analytics.tenants as t",
)


def catalogs(database: Any) -> list[list[Any]]:
    """Roles, memberships, settings, owners, rights and gates as they are, in an order of their own."""
    return [sorted((row["row"] for row in database.rows(query)), key=repr) for query in _CATALOGS]


# For a stand-in for dbt that connects as dbt does: as whom and where its environment says, by libpq's password file.
CONNECT = """
import psycopg

def connect(**options):
    return psycopg.connect(
        host=os.environ["DBT_HOST"], port=os.environ["DBT_PORT"], dbname=os.environ["DBT_DATABASE"],
        user=os.environ["DBT_USER"], application_name=os.environ["DBT_APPLICATION_NAME"], autocommit=True, **options
    )

"""
