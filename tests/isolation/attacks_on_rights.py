"""Attacks on who the session is and what it may: roles, memberships, settings, ownership, names that stand in."""

import psycopg

from tests.isolation.attacks import (
    NO_LEDGER,
    OF_OWNER,
    QUERY,
    SESSION,
    STATEMENT,
    Attack,
    Done,
    Refused,
    Shows,
    Way,
    forbidden,
)

_BECOME = """
create or replace function analytics_org_acme.become() returns text
language sql as $$ select set_config('role', 'kiket_ledger', false) $$
"""
_BECOME_AS_DEFINER = """
create or replace function analytics_org_acme.become_as_definer() returns text
language sql security definer as $$ select set_config('role', 'kiket_ledger', false) $$
"""
# Every comparison of an id with a number holds, for whoever finds this operator first.
_EQUAL = """
create or replace function analytics_org_acme.always(bigint, integer) returns boolean language sql as 'select true';
drop operator if exists analytics_org_acme.= (bigint, integer);
create operator analytics_org_acme.= (
    leftarg = bigint, rightarg = integer, function = analytics_org_acme.always
)
"""

IDENTITY = (
    *(
        Attack(
            f"set_role_{role}",
            f"a session cannot become {role}",
            f"set role {role}",
            forbidden(f'permission denied to set role "{role}"'),
            STATEMENT,
        )
        for role in (
            "analytics_org_blue_harbor",
            "analytics_gates",
            "analytics_tenants",
            "analytics_shared",
            "kiket_ledger",
            "kiket_provisioner",
            "postgres",
        )
    ),
    Attack(
        "session_authorization",
        "nor log in anew as somebody else",
        "set session authorization analytics_org_blue_harbor",
        forbidden('permission denied to set session authorization "analytics_org_blue_harbor"'),
        STATEMENT,
    ),
    Attack(
        "role_by_set_config",
        "a query cannot change the role by the setting's name",
        "select set_config('role', 'analytics_org_blue_harbor', false) as became",
        forbidden('permission denied to set role "analytics_org_blue_harbor"'),
        QUERY,
    ),
    Attack(
        "session_authorization_by_set_config",
        "nor who has logged in",
        "select set_config('session_authorization', 'postgres', false) as became",
        forbidden('permission denied to set session authorization "postgres"'),
        QUERY,
    ),
    Attack(
        "superuser_by_set_config",
        "nor whether that is a superuser",
        "select set_config('is_superuser', 'on', false) as became",
        Refused(psycopg.errors.CantChangeRuntimeParam, 'parameter "is_superuser" cannot be changed'),
        QUERY,
    ),
    Attack(
        "role_by_a_trojan_view",
        "a view that calls the tenant's function gets its reader no further, and nobody else reads it",
        "select became from analytics_org_acme.trojan",
        forbidden('permission denied to set role "kiket_ledger"'),
        QUERY,
        before=(
            _BECOME,
            "create or replace view analytics_org_acme.trojan as select analytics_org_acme.become() as became",
        ),
    ),
    Attack(
        "role_by_a_definers_function",
        "within a SECURITY DEFINER function the role cannot be changed at all",
        "select analytics_org_acme.become_as_definer() as became",
        forbidden('cannot set parameter "role" within security-definer function'),
        QUERY,
        before=(_BECOME_AS_DEFINER,),
    ),
    Attack(
        "reset_role",
        "the way back leads nowhere but to the login",
        ("reset role", "reset session authorization", "discard all", "select session_user::text, current_user::text"),
        Shows((("analytics_org_acme", "analytics_org_acme"),)),
        (Way.SESSION, Way.DASHBOARD),
        as_reader=Shows((("analytics_ro_acme", "analytics_ro_acme"),)),
    ),
)

ATTRIBUTES = (
    *(
        Attack(
            f"become_{attribute.replace(' ', '_').replace('-', '').lower()}",
            f"a tenant cannot give itself {attribute}",
            f"alter role analytics_org_acme {attribute}",
            forbidden("permission denied to alter role"),
            STATEMENT,
        )
        for attribute in (
            "superuser",
            "createdb",
            "createrole",
            "replication",
            "bypassrls",
            "noinherit",
            "connection limit -1",
        )
    ),
    Attack(
        "role_renamed",
        "nor another name",
        "alter role analytics_org_acme rename to analytics_org_newcomer",
        Refused(psycopg.errors.FeatureNotSupported, "session user cannot be renamed"),
        OF_OWNER,
    ),
    Attack(
        "role_made",
        "nor make a role",
        "create role analytics_org_newcomer",
        forbidden("permission denied to create role"),
        STATEMENT,
    ),
    Attack(
        "victims_password",
        "nor give another a password",
        "alter role analytics_org_blue_harbor password 'known'",
        forbidden("permission denied to alter role"),
        STATEMENT,
    ),
    Attack(
        "victims_settings",
        "nor settings",
        "alter role analytics_org_blue_harbor set search_path = analytics_org_acme",
        forbidden("permission denied to alter role"),
        STATEMENT,
    ),
    Attack(
        "victim_dropped",
        "nor drop it",
        "drop role analytics_org_blue_harbor",
        forbidden("permission denied to drop role"),
        STATEMENT,
    ),
    *(
        Attack(
            f"member_of_{role}",
            f"a tenant cannot make itself a member of {role}",
            f"grant {role} to analytics_org_acme",
            forbidden(f'permission denied to grant role "{role}"'),
            STATEMENT,
        )
        for role in (
            "kiket_ledger",
            "kiket_provisioner",
            "analytics_gates",
            "analytics_org_blue_harbor",
            "pg_read_all_data",
        )
    ),
    Attack(
        "tenant_lent",
        "nor lend itself to another",
        "grant analytics_org_acme to analytics_org_blue_harbor",
        forbidden('permission denied to grant role "analytics_org_acme"'),
        OF_OWNER,
    ),
    Attack(
        "member_with_set",
        "nor raise a membership that it has",
        "grant analytics_tenants to analytics_org_acme with set true, admin true",
        forbidden('permission denied to grant role "analytics_tenants"'),
        STATEMENT,
    ),
)

SETTINGS = (
    *(
        Attack(
            f"set_{parameter}",
            f"a session cannot set {parameter}",
            f"set {parameter} = {value}",
            forbidden(f'permission denied to set parameter "{parameter}"'),
            STATEMENT,
        )
        for parameter, value in (
            ("temp_file_limit", "-1"),
            ("log_min_messages", "log"),
            ("session_replication_role", "replica"),
            ("log_statement", "none"),
            ("log_min_duration_statement", "-1"),
            # The watch over statements that take too long looks at what it keeps.
            ("track_activities", "off"),
            ("allow_system_table_mods", "on"),
            ("session_preload_libraries", "'sly'"),
        )
    ),
    Attack(
        "reset_temp_file_limit",
        "nor give the limit on temporary files back",
        "reset temp_file_limit",
        forbidden('permission denied to set parameter "temp_file_limit"'),
        STATEMENT,
    ),
    Attack(
        "lifted_temp_file_limit",
        "nor lift it for its next session",
        "alter role analytics_org_acme set temp_file_limit = -1",
        forbidden('permission denied to set parameter "temp_file_limit"'),
        OF_OWNER,
    ),
    Attack(
        "reset_all",
        "all that it can give back, provisioning sets again; the limit on temporary files stays",
        (
            "alter role analytics_org_acme reset all",
            "select rolconfig from pg_roles where rolname = 'analytics_org_acme'",
        ),
        Shows(((["temp_file_limit=2048MB", "log_min_messages=fatal"],),)),
        SESSION,
        drift=("settings",),
    ),
    Attack(
        "lifted_statement_timeout",
        "time-outs it can lift for good, until provisioning sets them again",
        "alter role analytics_org_acme set statement_timeout = 0",
        Done(),
        SESSION,
        drift=("settings",),
    ),
    Attack(
        "read_only_for_good",
        "it can keep itself from writing, until then",
        "alter role analytics_org_acme set default_transaction_read_only = on",
        Done(),
        SESSION,
        drift=("settings",),
    ),
    Attack(
        "hostile_search_path_for_good",
        "it can have names of its own found first, until then",
        "alter role analytics_org_acme set search_path = analytics_org_acme, pg_temp, pg_catalog",
        Done(),
        SESSION,
        drift=("settings",),
    ),
    Attack(
        "role_at_login",
        "a role that it may not have, set for its next login, is not given, and is mended",
        "alter role analytics_org_acme set role = 'kiket_ledger'",
        Done(frozenset({'permission will be denied to set role "kiket_ledger"'})),
        SESSION,
        drift=("settings",),
    ),
    Attack(
        "session_authorization_at_login",
        "nor is another login",
        "alter role analytics_org_acme set session_authorization = 'kiket_ledger'",
        Done(frozenset({'permission will be denied to set session authorization "kiket_ledger"'})),
        SESSION,
        drift=("settings",),
    ),
    Attack(
        "settings_of_the_twin",
        "the twin's settings are not the tenant's to change",
        "alter role analytics_ro_acme set search_path = pg_temp",
        forbidden("permission denied to alter role"),
        OF_OWNER,
    ),
    Attack(
        "twin_lifts_its_settings",
        "what the twin changes of itself, provisioning mends too",
        "alter role analytics_ro_acme reset all",
        Done(),
        (Way.DASHBOARD,),
        drift=("settings",),
    ),
    Attack(
        "parameter_granted",
        "a right on a parameter cannot be passed on",
        "grant set on parameter temp_file_limit to analytics_org_acme",
        forbidden("permission denied for parameter temp_file_limit"),
        STATEMENT,
    ),
    Attack(
        "system_altered",
        "the server's settings are nobody's",
        "alter system set log_statement = 'none'",
        forbidden('permission denied to set parameter "log_statement"'),
        SESSION,
    ),
    Attack(
        "database_altered",
        "nor the database's",
        "alter database postgres set search_path = analytics_org_acme",
        forbidden("must be owner of database postgres"),
        STATEMENT,
    ),
)

OWNERSHIP = (
    Attack(
        "own_schema_for_all",
        "it can open its own schema to others, and that is seen and mended",
        (
            "create table if not exists analytics_org_acme.opened (id bigint)",
            "grant all on schema analytics_org_acme to public, analytics_org_blue_harbor, analytics_ro_blue_harbor",
            "grant select on analytics_org_acme.opened to public",
        ),
        Done(),
        SESSION,
        drift=("grants",),
    ),
    Attack(
        "own_schema_for_all_by_the_twin",
        "also where the twin has passed the right on",
        (
            "set default_transaction_read_only = off",
            "grant usage on schema analytics_org_acme to public, analytics_org_blue_harbor",
        ),
        Done(),
        (Way.DASHBOARD,),
        before=("grant usage on schema analytics_org_acme to analytics_ro_acme with grant option",),
        drift=("grants",),
    ),
    Attack(
        "twin_may_write",
        "a twin that may create in the schema is mended",
        "grant create on schema analytics_org_acme to analytics_ro_acme",
        Done(),
        SESSION,
        drift=("grants",),
    ),
    Attack(
        "twin_shut_out",
        "so is one that may not read it",
        "revoke all on schema analytics_org_acme from analytics_ro_acme",
        Done(),
        SESSION,
        drift=("grants",),
    ),
    Attack(
        "default_rights_taken",
        "and one that may not read what is built next",
        "alter default privileges in schema analytics_org_acme revoke select on tables from analytics_ro_acme",
        Done(),
        SESSION,
        drift=("default_grants",),
    ),
    Attack(
        "default_rights_for_all_on_schemas",
        "a schema that is dropped comes back with no right for others, whatever its owner's defaults are",
        (
            "alter default privileges grant all on schemas to public",
            "drop schema analytics_org_acme cascade",
        ),
        Done(),
        SESSION,
        drift=("schema",),
    ),
    Attack(
        "default_rights_in_the_victims_name",
        "nobody decides what others grant by default",
        "alter default privileges for role analytics_org_blue_harbor grant select on tables to analytics_org_acme",
        forbidden("permission denied to change default privileges"),
        STATEMENT,
    ),
    Attack(
        "everything_dropped",
        "all that it owns and may, given up at once, comes back with the next refresh",
        "drop owned by analytics_org_acme",
        Done(),
        SESSION,
        drift=("schema",),
    ),
    Attack(
        "victims_things_dropped",
        "what others own, it cannot drop",
        "drop owned by analytics_org_blue_harbor",
        forbidden("permission denied to drop objects"),
        STATEMENT,
    ),
    Attack(
        "things_given_to_the_victim",
        "nor give its own to others",
        "alter table analytics_org_acme.given owner to analytics_org_blue_harbor",
        forbidden('must be able to SET ROLE "analytics_org_blue_harbor"'),
        OF_OWNER,
        before=("create table if not exists analytics_org_acme.given (id bigint)",),
    ),
    Attack(
        "schema_given_to_the_victim",
        "its schema neither",
        "alter schema analytics_org_acme owner to analytics_org_blue_harbor",
        forbidden('must be able to SET ROLE "analytics_org_blue_harbor"'),
        OF_OWNER,
    ),
    Attack(
        "victims_things_taken",
        "nor take theirs",
        "reassign owned by analytics_org_blue_harbor to analytics_org_acme",
        forbidden("permission denied to reassign objects"),
        STATEMENT,
    ),
)

FUNCTIONS = tuple(
    Attack(
        f"calls_{call.partition('(')[0]}",
        "what makes, mends, drops and ends tenants is the worker's alone to call",
        f"select kiket_analytics.{call} as done",
        NO_LEDGER,
        QUERY,
    )
    for call in (
        "provision_tenant(2, 'x', 'x', 1, 8, 8, 8, 8, 0)::text",
        "provision_shared('x', 1, 8, 8, 8, 8, 0)::text",
        "set_up_login('analytics_org_blue_harbor', 'x', 8, '{}', 'analytics_tenants')::text",
        "drop_tenant('analytics_org_blue_harbor')",
        "end_tenant_sessions('analytics_org_blue_harbor')",
        "end_overrunning_sessions('analytics_org_blue_harbor', 0, 0)::text",
        "end_unattended_sessions(0, 0)::text",
        "end_overrunning_of('{analytics_org_blue_harbor}', 0, 0)::text",
        "hold_login('analytics_org_blue_harbor')::text",
        "release_login('analytics_org_blue_harbor')::text",
        "lend_logins('analytics_org_blue_harbor')::text",
        "take_back_logins('{analytics_org_blue_harbor}')::text",
        "names_of_tenant('analytics_org_blue_harbor', true)",
    )
)

SHADOWS = (
    Attack(
        "shadowed_operator",
        "an operator that says yes to everything changes what its own queries mean, and not what a gate lets through",
        (
            "set search_path = analytics_org_acme, pg_temp, pg_catalog",
            "select count(*), min(organization_id), max(organization_id) from analytics_raw.issues"
            " where organization_id = 2",
        ),
        Shows(((64, 1, 1),)),
        SESSION,
        before=(_EQUAL,),
    ),
    Attack(
        "shadowed_identity",
        "a function of the same name is not the one that gates ask",
        (
            "set search_path = analytics_org_acme, analytics_raw",
            "select session_organization_id(), (select count(*) from issues)",
        ),
        Shows(((2, 64),)),
        SESSION,
        before=(
            "create or replace function analytics_org_acme.session_organization_id() returns bigint"
            " language sql as 'select 2::bigint'",
        ),
    ),
    Attack(
        "shadowed_by_temporary_tables",
        "temporary tables named as those that a gate asks stand in for none",
        (
            "create temp table tenants as"
            " select 'analytics_org_acme'::text as schema_name, 2::bigint as organization_id",
            "create temp table issues as select 2::bigint as organization_id",
            "create temp view pg_roles as select 'postgres'::name as rolname, true as rolsuper",
            "set search_path = pg_temp, pg_catalog",
            "select analytics_raw.session_organization_id(), (select max(organization_id) from analytics_raw.issues)",
        ),
        Shows(((1, 1),)),
        SESSION,
    ),
    Attack(
        "shadowed_type",
        "nor do types of its own",
        (
            "drop domain if exists analytics_org_acme.text",
            "create domain analytics_org_acme.text as pg_catalog.text check (value is null)",
            "set search_path = analytics_org_acme, pg_catalog",
            "select analytics_raw.session_organization_id(), (select count(*) from analytics_raw.comments) > 0",
        ),
        Shows(((1, True),)),
        SESSION,
    ),
)
