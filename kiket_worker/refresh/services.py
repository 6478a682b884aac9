"""What a refresh works with: opened once a process, used by every run."""

import os
import random
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from kiket_worker.artifacts.store import Store, store_of
from kiket_worker.dbt.bundle import SHARED_MODELS, Bundle, core_bundle, shared_bundle
from kiket_worker.dbt.connection import DbtConnection
from kiket_worker.dbt.engine import Engine, Options, Tenant
from kiket_worker.dbt.executable import ExecutableEngine
from kiket_worker.dbt.replay.compiled import Compiled
from kiket_worker.dbt.replay.engine import ReplayEngine
from kiket_worker.errors import InvalidSetting
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.outbox import Waiting
from kiket_worker.refresh.bundles import PublishedBundles
from kiket_worker.refresh.compilation import CompiledBundles
from kiket_worker.refresh.retries import RetryPolicy
from kiket_worker.refresh.turns import Turns
from kiket_worker.settings import EngineName, IsolationMode, Publish, Settings
from kiket_worker.tenants.isolation import Isolation, RoleIsolation, SharedRole
from kiket_worker.tenants.keys import TenantKeys
from kiket_worker.tenants.login import Login
from kiket_worker.tenants.provisioning import Limits

if TYPE_CHECKING:
    from kiket_worker.telemetry.process import Telemetry


@dataclass(frozen=True)
class Services:
    """The parts that the pipeline is made of. `worker` names this process in the ledger and in the log."""

    database: Database
    bundles: PublishedBundles
    engine: Engine
    store: Store
    publish: Callable[[Waiting], None]
    worker: str
    isolation: Isolation
    shared_schema: str
    shared_interval_hours: int
    lease_ttl_seconds: float
    retries: RetryPolicy
    random: Callable[[], float]
    telemetry: "Telemetry"
    turns: Turns = field(default_factory=Turns)
    engines: Mapping[str, Engine] = field(default_factory=dict)

    @property
    def bundle(self) -> Bundle:
        """The project of organisations that have published nothing."""
        return self.bundles.core

    @cached_property
    def shared_bundle(self) -> Bundle:
        """The part of the bundle that is built once for all organisations; its digest is computed once."""
        return shared_bundle(self.bundle)

    def engine_of(self, name: str | None) -> Engine:
        """The engine of this name, where an organisation has one of its own; else that of the installation."""
        return self.engines.get(name or "", self.engine)


def process_name() -> str:
    """How this process is named in the ledger, in the log and to a collector."""
    return f"{socket.gethostname()}:{os.getpid()}"


def open_services(settings: Settings, database: Database, publish: Callable[[Waiting], None]) -> Services:
    """The parts as the settings name them. Raises `InvalidSetting`, and `RolesNotSetUp`."""
    # A fifth of a command's start, and only those that refresh need it.
    from kiket_worker.telemetry.process import Telemetry  # noqa: PLC0415

    connection = DbtConnection.from_settings(settings)
    isolation = open_isolation(settings, connection)
    isolation.check(database)
    store = store_of(settings)
    worker = process_name()
    executable = ExecutableEngine(
        settings.dbt_executable,
        connection,
        time_limit_seconds=settings.run_time_limit_seconds,
        command=settings.dbt_command,
        has_telemetry=settings.dbt_has_telemetry,
    )
    replay = ReplayEngine(
        executable,
        connection,
        CompiledBundles(database, store, isolation, connection, worker=worker, command=settings.dbt_command),
        time_limit_seconds=settings.run_time_limit_seconds,
        partial=settings.publish is Publish.PARTIAL,
        checked_share=settings.shadow_check_share,
        random=random.random,
    )
    engines: dict[str, Engine] = {EngineName.REPLAY: replay, EngineName.EXECUTABLE: executable}
    return Services(
        database=database,
        bundles=PublishedBundles(core_bundle(), store),
        engine=engines[settings.engine],
        engines=engines,
        store=store,
        publish=publish,
        worker=worker,
        isolation=isolation,
        shared_schema=settings.dbt_shared_schema,
        shared_interval_hours=settings.shared_interval_hours,
        lease_ttl_seconds=settings.lease_ttl_seconds,
        retries=RetryPolicy(settings.max_attempts, settings.max_crashes, settings.retry_base_seconds),
        random=random.random,
        telemetry=Telemetry.from_settings(settings, worker),
    )


def compile_core_bundle(settings: Settings, database: Database) -> Compiled | None:
    """The compiled core bundle, compiled now if it is not yet; None while a worker is at it. Raises `KiketError`."""
    connection = DbtConnection.from_settings(settings)
    isolation = open_isolation(settings, connection)
    isolation.check(database)
    compiled = CompiledBundles(
        database,
        store_of(settings),
        isolation,
        connection,
        worker=process_name(),
        command=settings.dbt_command,
    )
    return compiled.compile(core_bundle(), *_of_any_tenant(isolation, settings.dbt_shared_schema))


def prepare(services: Services) -> None:
    """Have the bundle compiled in the background, if it is not yet, before the first tenant asks for it."""
    engine = services.engine
    if isinstance(engine, ReplayEngine):
        engine.library.prepare(services.bundle, *_of_any_tenant(services.isolation, services.shared_schema))


def close(services: Services) -> None:
    """End what goes on in the background, and send what telemetry waits."""
    services.telemetry.close()
    if isinstance(services.engine, ReplayEngine):
        services.engine.library.close()


def _of_any_tenant(isolation: Isolation, shared_schema: str) -> tuple[Tenant, Options]:
    """What all tenants have in common: nothing else counts for a compiled bundle."""
    user = None if isolation.mode is IsolationMode.SHARED else "each organisation's own"
    tenant = Tenant(0, "", "", shared_schema, isolation.raw_schema, isolation.ledger_schema, user=user)
    return tenant, Options(Path(), "", exclusion=(SHARED_MODELS,))


def open_isolation(settings: Settings, connection: DbtConnection) -> Isolation:
    """How organisations are kept apart, as the settings say. Raises `InvalidSetting`."""
    limits = Limits.from_settings(settings)
    if settings.isolation is IsolationMode.SHARED:
        return SharedRole(limits, connection.address, Login(connection.user, connection.password))
    if settings.dbt_user or settings.dbt_password:
        raise InvalidSetting(
            "DBT_USER and DBT_PASSWORD name one login for all organisations, and each has a role of its own: leave "
            "them out, or set KIKET_ISOLATION=shared (docs/isolation.md says what that gives up)"
        )
    return RoleIsolation(TenantKeys.from_settings(settings), limits, connection.address)
