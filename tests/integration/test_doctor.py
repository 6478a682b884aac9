"""Doctor on a real installation: each fault is found, and goes away by the remedy that is told with it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from kiket_worker.artifacts.directory import DirectoryStore
from kiket_worker.dbt.bundle import Bundle, core_bundle
from kiket_worker.dbt.connection import DbtConnection
from kiket_worker.dbt.contents import Contents, contents_of
from kiket_worker.dbt.overlay import Overlay
from kiket_worker.definitions.publishing import Publisher
from kiket_worker.dev import environment, postgres, sample
from kiket_worker.doctor.definitions import examine_definitions
from kiket_worker.doctor.finding import Finding
from kiket_worker.doctor.grants import _GRANT, rights_of
from kiket_worker.doctor.installation import examine_installation
from kiket_worker.doctor.organization import examine_organization
from kiket_worker.ledger import organizations
from kiket_worker.ledger.database import Database
from kiket_worker.settings import Settings
from kiket_worker.shipped import shipped
from kiket_worker.tenants import provisioning, roles
from kiket_worker.tenants.gates import Gate, load_gates
from kiket_worker.tenants.keys import TenantKeys
from kiket_worker.tenants.provisioning import Candidate
from tests.support.dbt_scripts import until
from tests.support.installations import Installation
from tests.support.publications import model, publication
from tests.support.tenants import KEYS, SECRETS, settings_of


@dataclass
class Patient:
    """An installation, and how doctor looks at it."""

    installation: Installation
    gates: tuple[Gate, ...] = field(default_factory=lambda: load_gates(None))
    contents: Contents = field(default_factory=lambda: contents_of(core_bundle()))
    variables: dict[str, object] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        return settings_of(self.installation.ledger_url, **self.variables)

    def examine(self) -> dict[str, Finding]:
        """What is wrong with the installation, by kind."""
        address = DbtConnection.from_settings(self.settings).address
        found = examine_installation(self.settings, self.installation.ledger, self.gates, address)
        return {finding.kind: finding for finding in found}

    def examine_acme(self) -> dict[str, Finding]:
        """What is wrong with an organisation, by kind."""
        one = organizations.find(self.installation.ledger, "acme")
        address = DbtConnection.from_settings(self.settings).address
        found = examine_organization(self.settings, self.installation.ledger, one, self.gates, self.contents, address)
        return {finding.kind: finding for finding in found}

    def provision(self, keys: TenantKeys = KEYS) -> None:
        self.installation.provision(ACME, keys)

    def set_up_roles(self) -> None:
        roles.set_up(self.installation.database.url, self.gates, shared_schema="analytics_shared")


ACME = Candidate(1, "acme")
SAMPLE_NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)


@pytest.fixture
def patient(installation: Installation) -> Iterator[Patient]:
    # The one database beside that everybody may connect to, and what template databases lend to no one.
    installation.execute("revoke connect on database postgres from public")
    installation.execute("revoke connect on database sample from public")
    yield Patient(installation)
    installation.execute("grant connect on database postgres to public")
    installation.execute("grant connect on database sample to public")


# Other databases of the tests' server use the same roles, as no real installation should.
ALWAYS = {"roles_shared_between_databases", "other_databases_open"}


def test_nothing_is_wrong_with_a_fresh_installation(patient: Patient) -> None:
    assert patient.examine().keys() - ALWAYS == set()


FAULTS: list[tuple[str, str, str]] = [
    ("public_rights", "grant connect on database {database} to public", "connect to the database"),
    ("public_rights", "grant usage on schema public to public", "use the schema public"),
    ("public_rights", "grant execute on function lo_create(oid) to public", "create large objects"),
    ("gate_changed", "alter view analytics_raw.issues owner to postgres", "analytics_raw.issues"),
    ("gate_changed", "alter view analytics_raw.issues reset (security_barrier)", "analytics_raw.issues"),
    ("gate_changed", "grant select on analytics_raw.issues to public", "analytics_raw.issues"),
    (
        "gate_changed",
        "create or replace view analytics_raw.comments with (security_barrier) as"
        " select id, issue_id, author_id, body, created_at from public.comments",
        "analytics_raw.comments",
    ),
    ("gate_absent", "drop view analytics_raw.releases", "analytics_raw.releases"),
    ("roles_not_set_up", "delete from kiket_analytics.roles", "migrate --roles"),
    ("rights_lacking", "revoke update on kiket_analytics.runs from kiket_ledger", "update on kiket_analytics.runs"),
    ("rights_lacking", "revoke select on kiket_analytics.usage_events from kiket_ledger", "usage_events"),
    ("rights_lacking", "revoke select (plan) on public.organizations from kiket_metrics", "kiket_metrics: select"),
    ("rights_lacking", "revoke usage on schema analytics_raw from analytics_tenants", "analytics_tenants: usage"),
    (
        "rights_lacking",
        "revoke execute on function kiket_analytics.drop_tenant(text) from kiket_ledger",
        "kiket_ledger: execute on kiket_analytics.drop_tenant(text)",
    ),
    ("rights_lacking", "revoke connect on database {database} from kiket_metrics", "kiket_metrics: connect"),
    ("rights_lacking", "revoke create on database {database} from kiket_provisioner", "kiket_provisioner: create"),
    ("rights_lacking", "revoke pg_signal_backend from kiket_warden", "kiket_warden: membership in pg_signal_backend"),
    ("rights_lacking", "alter role kiket_provisioner nocreaterole", "kiket_provisioner: createrole"),
    ("rights_lacking", "alter role kiket_metrics nologin", "kiket_metrics: login"),
    (
        "rights_lacking",
        "drop function kiket_analytics.drop_tenant(text)",
        "kiket_ledger: execute on kiket_analytics.drop_tenant(text)",
    ),
    ("rights_lacking", "create table kiket_analytics.later ()", "kiket_ledger: select on kiket_analytics.later"),
]


@pytest.mark.parametrize(("kind", "fault", "words"), FAULTS, ids=[f"{kind}: {fault[:40]}" for kind, fault, _ in FAULTS])
def test_what_migrate_roles_mends_is_found_and_mended_by_it(
    patient: Patient, kind: str, fault: str, words: str
) -> None:
    name = patient.installation.rows("select current_database() as name")[0]["name"]
    patient.installation.execute(fault.format(database=name))
    finding = patient.examine()[kind]
    assert words in finding.message
    assert "kiket-worker migrate --roles" in finding.remedy
    patient.set_up_roles()
    assert kind not in patient.examine()


def test_roles_that_a_restored_database_does_not_find_on_its_server_are_named(patient: Patient) -> None:
    patient.installation.execute("alter role analytics_tenants rename to elsewhere")
    try:
        finding = patient.examine()["roles_not_set_up"]
    finally:
        patient.installation.execute("alter role elsewhere rename to analytics_tenants")
    assert "restore to another server: analytics_tenants" in finding.message
    assert "tenants provision --all" in finding.message
    assert "roles_not_set_up" not in patient.examine()


GRANTS = [
    ("role_powerful", "alter role analytics_tenants createdb", "alter role analytics_tenants nocreatedb"),
    ("role_powerful", "alter role kiket_warden login", "alter role kiket_warden nologin"),
    ("role_powerful", "alter role analytics_shared superuser", "alter role analytics_shared nosuperuser"),
    ("role_powerful", "alter role analytics_org_acme createdb", "alter role analytics_org_acme nocreatedb"),
    ("role_granted", "grant pg_read_all_data to analytics_tenants", "revoke pg_read_all_data from analytics_tenants"),
    ("role_granted", "grant pg_read_all_data to kiket_metrics", "revoke pg_read_all_data from kiket_metrics"),
    ("role_granted", "grant kiket_ledger to analytics_ro_acme", "revoke kiket_ledger from analytics_ro_acme"),
    ("role_granted", "grant pg_read_all_data to kiket_warden", "revoke pg_read_all_data from kiket_warden"),
]


@pytest.mark.parametrize(("kind", "fault", "remedy"), GRANTS, ids=[fault for _, fault, _ in GRANTS])
def test_rights_that_somebody_gave_to_the_roles_are_found(patient: Patient, kind: str, fault: str, remedy: str) -> None:
    patient.installation.provision(ACME)
    assert kind not in patient.examine()
    patient.installation.execute(fault)
    try:
        finding = patient.examine()[kind]
    finally:
        patient.installation.execute(remedy)
    (role,) = re.findall(r"role (\w+)| to (\w+)", fault)
    assert "".join(role) in finding.message
    assert kind not in patient.examine()


def test_rights_are_looked_for_wherever_the_script_grants_them_to_a_role_by_name() -> None:
    script = shipped("deploy/sql/roles.sql").read_text()
    found = {(right.role, right.kind) for right in rights_of(script)}
    assert found >= {("kiket_ledger", kind) for kind in ("table", "schema", "function")}
    assert {"kiket_metrics", "kiket_provisioner", "kiket_warden", "analytics_gates"} <= {role for role, _ in found}
    # All but memberships, which are on nothing.
    grants = re.findall(r"^grant [a-z, ]+(?: \([^)]*\))? on\b", script, re.MULTILINE)
    assert len(grants) == len(list(_GRANT.finditer(script))) > 20


def test_a_ledger_of_a_later_release_is_told_of(patient: Patient) -> None:
    patient.installation.execute(
        "insert into kiket_analytics._yoyo_migration (migration_hash, migration_id) values ('x', '9999-later')"
    )
    assert "9999-later" in patient.examine()["ledger_newer"].message


def test_other_databases_that_tenants_may_connect_to_are_named(patient: Patient) -> None:
    patient.installation.execute("grant connect on database postgres to public")
    assert "postgres" in patient.examine()["other_databases_open"].message
    patient.installation.execute("revoke connect on database postgres from public")
    after = patient.examine().get("other_databases_open")
    assert after is None or " postgres" not in after.message


def test_raw_tables_on_no_list_and_gates_to_absent_ones_are_told(patient: Patient) -> None:
    patient.installation.execute("create table public.payroll (organization_id bigint)")
    found = patient.examine()
    assert "payroll" in found["raw_tables_not_listed"].message
    ghost = replace(patient.gates[0], name="ghosts", table="ghosts")
    patient.gates += (ghost,)
    assert "public.ghosts" in patient.examine()["raw_table_absent"].message


def test_a_list_that_has_changed_makes_its_gate_outdated_until_it_is_applied(patient: Patient) -> None:
    users = next(gate for gate in patient.gates if gate.name == "users")
    patient.gates = (
        *(gate for gate in patient.gates if gate.name != "users"),
        replace(users, columns=(*users.columns, "email")),
    )
    assert "users" in patient.examine()["gate_outdated"].message
    patient.set_up_roles()
    assert "gate_outdated" not in patient.examine()


def test_keys_that_are_missing_and_older_ones_are_found(patient: Patient) -> None:
    patient.provision()
    patient.variables = {"KIKET_TENANT_KEYS": None}
    assert "openssl" in patient.examine()["invalid_setting"].message
    patient.variables = {"KIKET_TENANT_KEYS": f"{SECRETS.tenant_keys},2:{'n' * 40}"}
    finding = patient.examine()["older_keys"]
    assert "version 2" in finding.message
    assert "rotate-keys" in finding.remedy
    newer = TenantKeys.from_settings(patient.settings)
    for batch in patient.installation.provisioner(newer).rotate(patient.installation.ledger):
        assert {one.outcome for one in batch} == {"rotated"}
    assert "older_keys" not in patient.examine()


def test_what_is_left_of_an_organisation_that_is_gone_is_found_and_dropped(patient: Patient) -> None:
    gone = patient.installation.add()
    patient.installation.provision(gone)
    patient.installation.execute("delete from public.organizations where id = %s", gone.organization_id)
    finding = patient.examine()["tenant_without_organization"]
    assert "kiket-worker tenants drop" in finding.remedy
    schema = f"analytics_org_{gone.slug.replace('-', '_')}"
    assert schema in finding.message
    provisioning.drop(patient.installation.ledger, schema.removeprefix("analytics_org_"))
    assert "tenant_without_organization" not in patient.examine()


@pytest.mark.parametrize("variables", [{}, {"KIKET_ISOLATION": "shared", "KIKET_TENANT_KEYS": None}])
def test_a_schema_that_nobody_knows_is_told(patient: Patient, variables: dict[str, object]) -> None:
    patient.variables = variables
    patient.installation.execute("create schema analytics_org_nobodys")
    assert "analytics_org_nobodys" in patient.examine()["schema_without_tenant"].message


def test_a_superuser_as_login_is_warned_of(patient: Patient) -> None:
    address = DbtConnection.from_settings(patient.settings).address
    with Database(patient.installation.database.url) as database:
        found = {finding.kind for finding in examine_installation(patient.settings, database, patient.gates, address)}
    assert "ledger_login_powerful" in found


def test_a_server_that_asks_nobody_for_a_password_is_found(postgres_folder: Path) -> None:
    """A server of its own, whose access file comes to trust everybody."""
    folder = postgres_folder.with_name(f"{postgres_folder.name}-trusting")
    try:
        url = environment.load_platform(postgres.start(folder), "trusting", sample.tiny(), now=SAMPLE_NOW)
        settings = settings_of(environment.set_up_roles(url, SECRETS))
        address = DbtConnection.from_settings(settings).address
        with Database(settings.database_url.get_secret_value()) as database:

            def kinds() -> set[str]:
                found = examine_installation(settings, database, load_gates(None), address)
                return {finding.kind for finding in found}

            assert "passwords_not_asked" not in kinds()
            (folder / "data" / "pg_hba.conf").write_text("local all all trust\n")
            with psycopg.connect(url, autocommit=True) as superuser:
                superuser.execute("select pg_reload_conf()")
            until(lambda: "passwords_not_asked" in kinds(), "the server reads its access file again")
    finally:
        postgres.stop(folder)


def test_shared_role_mode_says_what_it_does_not_guarantee(patient: Patient) -> None:
    patient.variables = {"KIKET_ISOLATION": "shared", "KIKET_TENANT_KEYS": None}
    found = patient.examine()
    assert set(found) == {"isolation_shared"}
    assert "can read and change every organisation's data" in found["isolation_shared"].message
    patient.variables |= {"DBT_USER": "postgres"}
    assert "dbt_login_powerful" in patient.examine()


# One organisation.


def test_an_organisation_before_its_first_refresh_has_nothing_to_mend(patient: Patient) -> None:
    patient.installation.execute(
        "update kiket_analytics.analytics_settings set last_run_at = now() where organization_id = 1"
    )
    patient.installation.execute("update kiket_analytics.ticker set ticked_at = now()")
    assert set(patient.examine_acme()) - {"not_provisioned"} == {"not_due"}


def test_drift_and_a_login_that_is_refused_are_found_and_provisioning_mends_them(patient: Patient) -> None:
    patient.provision()
    assert "tenant_drifted" not in patient.examine_acme()
    with patient.installation.tenant("acme") as session:
        session.execute("alter role analytics_org_acme set statement_timeout = 0")
        session.execute("alter role analytics_org_acme password 'my own'")
    found = patient.examine_acme()
    assert "settings" in found["tenant_drifted"].message
    assert "tenants provision acme" in found["tenant_login_failed"].remedy
    patient.provision()
    assert {"tenant_drifted", "tenant_login_failed"} & patient.examine_acme().keys() == set()


def test_a_role_that_sees_more_than_it_may_is_an_error(patient: Patient) -> None:
    patient.provision()
    patient.installation.execute("grant pg_read_all_data to analytics_org_acme")
    try:
        assert "pg_read_all_data" in patient.examine_acme()["tenant_not_isolated"].message
    finally:
        patient.installation.execute("revoke pg_read_all_data from analytics_org_acme")
    assert "tenant_not_isolated" not in patient.examine_acme()


def test_sources_that_are_not_listed_absent_or_empty_are_told_apart(patient: Patient, tmp_path: Path) -> None:
    patient.provision()
    found = patient.examine_acme()
    assert "usage_events" in found["source_empty"].message
    patient.contents = replace(patient.contents, raw_tables=("issues", "payroll"))
    found = patient.examine_acme()
    assert "payroll" in found["source_not_listed"].message
    assert "source_empty" not in found
    issues = next(gate for gate in patient.gates if gate.name == "issues")
    patient.gates += (replace(issues, name="payroll", table="payroll"),)
    assert "public.payroll" in patient.examine_acme()["source_absent"].message
    patient.installation.execute("create table public.payroll as table public.issues")
    patient.set_up_roles()
    assert {"source_absent", "source_not_listed", "source_empty"} & patient.examine_acme().keys() == set()


def test_models_that_were_not_built_and_relations_of_others_are_told(patient: Patient) -> None:
    patient.provision()
    assert "model_not_built" not in patient.examine_acme(), "nothing was refreshed yet"
    with patient.installation.tenant("acme") as session:
        session.execute("create table dim_users (user_id bigint)")
    assert "dim_projects" in patient.examine_acme()["model_not_built"].message
    assert "dim_users" not in patient.examine_acme()["model_not_built"].message
    patient.installation.execute("alter table analytics_org_acme.dim_users owner to postgres")
    finding = patient.examine_acme()["relation_owned_by_another"]
    assert "dim_users (postgres)" in finding.message
    patient.installation.execute("alter table analytics_org_acme.dim_users owner to analytics_org_acme")
    assert "relation_owned_by_another" not in patient.examine_acme()


def test_a_slug_without_a_schema_of_its_own_says_so_and_nothing_else(patient: Patient) -> None:
    patient.installation.execute("update public.organizations set slug = 'Not A Slug' where slug = 'acme'")
    one = organizations.find(patient.installation.ledger, "Not A Slug")
    found = list(
        examine_organization(patient.settings, patient.installation.ledger, one, patient.gates, patient.contents, {})
    )
    assert [finding.kind for finding in found] == ["organization_slug_invalid"]


def test_the_contents_of_a_bundle_are_its_models_and_what_they_read(tmp_path: Path) -> None:
    core = contents_of(core_bundle())
    assert {"stg_issues", "fct_throughput"} <= core.models
    assert core.shared_models == {"dim_dates"}
    assert set(core.raw_tables) == {gate.name for gate in load_gates(None)}

    models = tmp_path / "models"
    models.mkdir()
    (models / "a.sql").write_text("select 1")
    (models / "good.yml").write_text(
        "sources:\n"
        "  - {name: raw, schema: raw, tables: [{name: t, identifier: physical}, {name: u}]}\n"
        "  - {name: own, schema: \"{{ var('organization_schema') }}\", tables: [{name: custom}]}\n"
    )
    for number, text in enumerate(["{{ not yaml", "just text", "sources: 7", "sources: [7]", "a: [", "\xff"]):
        (models / f"odd{number}.yml").write_bytes(text.encode("latin-1"))
    odd = contents_of(Bundle(tmp_path))
    assert odd.models == {"a"}
    assert odd.raw_tables == ("physical", "u")


def test_models_that_an_organisation_has_published_are_looked_for_too(patient: Patient, tmp_path: Path) -> None:
    one = organizations.find(patient.installation.ledger, "acme")
    store = DirectoryStore(tmp_path / "artifacts")
    publisher = Publisher(patient.installation.ledger, store, core_bundle())
    files = model("mine") | model("part", "{{ config(materialized='ephemeral') }} select 1 as n")
    assert [done.has_failed for done in publisher.publish(publication(files), [one])] == [False]

    contents, lost = examine_definitions(patient.installation.ledger, store, core_bundle(), one)
    assert (contents.models - contents_of(core_bundle()).models, lost) == ({"mine", "part"}, [])
    patient.provision()
    made = f"create table analytics_org_acme.{next(iter(contents.shared_models))} (n integer)"
    patient.installation.execute(made)
    patient.contents = contents
    absent = patient.examine_acme()["model_not_built"].message
    assert "mine" in absent
    assert "part" not in absent

    digest = Overlay(files).digest
    (tmp_path / f"artifacts/_definitions/{digest}/overlay.json.gz").unlink()
    contents, (found,) = examine_definitions(patient.installation.ledger, store, core_bundle(), one)
    assert contents == contents_of(core_bundle())
    assert (found.kind, found.organization) == ("overlay_damaged", "acme")
    assert digest in found.message
