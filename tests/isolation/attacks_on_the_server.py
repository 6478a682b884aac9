"""Attacks on the server behind the database: its files, programs, other sessions, replication and what all share."""

import psycopg

from tests.isolation.attacks import OF_OWNER, QUERY, SESSION, STATEMENT, Attack, Refused, Shows, Way, forbidden

FILES = (
    Attack(
        "file_read",
        "no file of the server can be read",
        "select pg_read_file('/etc/passwd') as content",
        forbidden("permission denied for function pg_read_file"),
        QUERY,
    ),
    Attack(
        "folder_listed",
        "nor a folder listed",
        "select pg_ls_dir('.') as name",
        forbidden("permission denied for function pg_ls_dir"),
        QUERY,
    ),
    Attack(
        "log_listed",
        "nor the log",
        "select name from pg_ls_logdir()",
        forbidden("permission denied for function pg_ls_logdir"),
        QUERY,
    ),
    Attack(
        "access_rules_read",
        "nor who may log in from where",
        "select type from pg_hba_file_rules",
        forbidden("permission denied for view pg_hba_file_rules"),
        QUERY,
    ),
    Attack(
        "file_copied_in",
        "COPY reads no file",
        "copy analytics_org_acme.copied from '/etc/passwd'",
        forbidden("permission denied to COPY from a file"),
        STATEMENT,
        before=("create table if not exists analytics_org_acme.copied (line text)",),
    ),
    Attack(
        "file_copied_out",
        "nor writes one",
        "copy (select 1) to '/tmp/kiket-isolation-test'",
        forbidden("permission denied to COPY to a file"),
        STATEMENT,
    ),
    Attack(
        "program_run",
        "nor runs a program",
        "copy (select 1) to program 'touch /tmp/kiket-isolation-test'",
        forbidden("permission denied to COPY to or from an external program"),
        STATEMENT,
    ),
    Attack(
        "library_loaded",
        "no library can be loaded",
        "load '/tmp/sly.so'",
        forbidden('access to library "/tmp/sly.so" is not allowed'),
        STATEMENT,
    ),
    Attack(
        "function_in_c",
        "nor a function in C made of one",
        "create function analytics_org_acme.native() returns bigint language c as '/tmp/sly.so', 'native'",
        forbidden("permission denied for language c"),
        OF_OWNER,
    ),
    Attack(
        "function_internal",
        "nor an internal one under another name",
        "create function analytics_org_acme.internal(bigint) returns bigint language internal as 'int8abs'",
        forbidden("permission denied for language internal"),
        OF_OWNER,
    ),
    Attack(
        "object_imported",
        "no file becomes a large object",
        "select lo_import('/etc/passwd')::bigint as made",
        forbidden("permission denied for function lo_import"),
        QUERY,
    ),
    Attack(
        "object_exported",
        "and none a file",
        "select lo_export(1, '/tmp/kiket-isolation-test') as done",
        forbidden("permission denied for function lo_export"),
        QUERY,
    ),
    *(
        Attack(
            f"object_made_by_{call.partition('(')[0]}",
            "large objects lie in no schema, where a quota would count them: none can be made",
            f"select {call}::bigint as made",
            forbidden(f"permission denied for function {call.partition('(')[0]}"),
            QUERY,
        )
        for call in ("lo_creat(-1)", "lo_create(0)", "lo_from_bytea(0, 'x')")
    ),
    Attack(
        "objects_read",
        "nor the table behind them be read",
        "select data from pg_largeobject",
        forbidden("permission denied for table pg_largeobject"),
        QUERY,
    ),
)

EXTENSIONS = (
    *(
        Attack(
            f"extension_{name}",
            f"the extension {name} cannot be made",
            f"create extension {name}",
            error,
            STATEMENT,
        )
        for name, error in (
            ("dblink", forbidden('permission denied to create extension "dblink"')),
            ("postgres_fdw", forbidden('permission denied to create extension "postgres_fdw"')),
            ("file_fdw", forbidden('permission denied to create extension "file_fdw"')),
            ("pg_trgm", forbidden('permission denied to create extension "pg_trgm"')),
        )
    ),
    Attack(
        "dblink_called",
        "so there is no way to open a connection from SQL",
        "select dblink_connect('dbname=postgres') as opened",
        Refused(psycopg.errors.UndefinedFunction, "function dblink_connect(unknown) does not exist"),
        QUERY,
    ),
    Attack(
        "foreign_data_wrapper",
        "nor can a foreign data wrapper be made by hand",
        "create foreign data wrapper sly",
        forbidden('permission denied to create foreign-data wrapper "sly"'),
        STATEMENT,
    ),
    Attack(
        "language_made",
        "nor a language",
        "create language sly handler plpgsql_call_handler",
        forbidden("must be superuser to create custom procedural language"),
        STATEMENT,
    ),
    Attack(
        "event_trigger",
        "nor an event trigger, which others' statements would spring",
        "create event trigger sly on ddl_command_end execute function analytics_org_acme.sprung()",
        forbidden('permission denied to create event trigger "sly"'),
        (Way.HOOK, Way.SESSION),
        before=(
            "create or replace function analytics_org_acme.sprung() returns event_trigger"
            " language plpgsql as 'begin end'",
        ),
    ),
    Attack(
        "cast_made",
        "nor a cast of types that are not its own",
        "create cast (bigint as boolean) without function",
        forbidden("must be owner of type bigint or type boolean"),
        STATEMENT,
    ),
    Attack(
        "publication_of_all",
        "no publication streams tables out",
        "create publication sly for all tables",
        forbidden("permission denied for database"),
        STATEMENT,
    ),
    Attack(
        "subscription",
        "no subscription streams rows in",
        "create subscription sly connection 'dbname=postgres' publication sly with (connect = false)",
        forbidden("permission denied to create subscription"),
        STATEMENT,
    ),
    Attack(
        "replication_slot",
        "no replication slot keeps the log from being cleared",
        "select pg_create_physical_replication_slot('sly', true)::text as made",
        forbidden("permission denied to use replication slots"),
        QUERY,
    ),
    Attack(
        "logical_slot",
        "nor reads changes of all tables from it",
        "select pg_create_logical_replication_slot('sly', 'pgoutput')::text as made",
        forbidden("permission denied to use replication slots"),
        QUERY,
    ),
    Attack(
        "replication_origin",
        "nor can a session pass for a replica",
        "select pg_replication_origin_create('sly')::bigint as made",
        forbidden("permission denied for function pg_replication_origin_create"),
        QUERY,
    ),
    Attack(
        "database_made",
        "no database can be made",
        "create database sly",
        forbidden("permission denied to create database"),
        SESSION,
    ),
    Attack(
        "tablespace_made",
        "nor a tablespace",
        "create tablespace sly location '/tmp'",
        forbidden('permission denied to create tablespace "sly"'),
        SESSION,
    ),
)

OTHERS = (
    Attack(
        "session_terminated",
        "no session of others can be ended",
        "select pg_terminate_backend(pid) as ended from pg_stat_activity where usename = 'kiket_ledger'",
        forbidden("permission denied to terminate process"),
        QUERY,
    ),
    Attack(
        "victim_terminated",
        "another tenant's neither",
        "select pg_terminate_backend(pid) as ended from pg_stat_activity where usename = 'analytics_org_blue_harbor'",
        forbidden("permission denied to terminate process"),
        QUERY,
    ),
    Attack(
        "query_cancelled",
        "nor a query of theirs cancelled",
        "select pg_cancel_backend(pid) as ended from pg_stat_activity where usename = 'analytics_org_blue_harbor'",
        forbidden("permission denied to cancel query"),
        QUERY,
    ),
    Attack(
        "prepared_transaction",
        "no transaction is left behind without a session",
        (
            "begin",
            "create table analytics_org_acme.prepared (id bigint)",
            "prepare transaction 'sly'",
        ),
        Refused(psycopg.errors.ObjectNotInPrerequisiteState, "prepared transactions are disabled"),
        SESSION,
    ),
    Attack(
        "notification_too_long",
        "a notification has room for 8,000 bytes",
        "select pg_notify('kiket', repeat('x', 8000))::text as sent",
        Refused(psycopg.errors.InvalidParameterValue, "payload string too long"),
        QUERY,
    ),
    Attack(
        "statistics_reset",
        "what the server counts cannot be reset",
        "select pg_stat_reset()::text as done",
        forbidden("permission denied for function pg_stat_reset"),
        QUERY,
    ),
    Attack(
        "configuration_reloaded",
        "nor its configuration read anew",
        "select pg_reload_conf() as done",
        forbidden("permission denied for function pg_reload_conf"),
        QUERY,
    ),
    Attack(
        "log_switched",
        "nor its log switched",
        "select pg_switch_wal()::text as done",
        forbidden("permission denied for function pg_switch_wal"),
        QUERY,
    ),
    Attack(
        "checkpoint",
        "nor a checkpoint forced",
        "checkpoint",
        forbidden("permission denied to execute CHECKPOINT command"),
        STATEMENT,
    ),
    Attack(
        "database_reindexed",
        "nor the database kept busy with itself",
        "reindex schema analytics_org_blue_harbor",
        forbidden("must be owner of schema analytics_org_blue_harbor"),
        SESSION,
    ),
    Attack(
        "temporary_table_of_the_twin",
        "the twin cannot even make a temporary table",
        ("set default_transaction_read_only = off", "create temp table filling (line text)"),
        forbidden("permission denied to create temporary tables in database"),
        (Way.DASHBOARD,),
    ),
    Attack(
        "twin_writes",
        "nor write where it can read",
        ("set default_transaction_read_only = off", "insert into analytics_org_acme.written values (1)"),
        forbidden("permission denied for table written"),
        (Way.DASHBOARD,),
        before=("create table if not exists analytics_org_acme.written (id bigint)",),
    ),
    Attack(
        "squatted_names",
        "relations of its own named as the platform's are found by nobody else",
        (
            "create table if not exists analytics_org_acme.organizations (id bigint)",
            "create table if not exists analytics_org_acme.runs (id bigint)",
            "select count(*) from analytics_org_acme.runs",
        ),
        Shows(((0,),)),
        SESSION,
    ),
)
