"""A refresh among ten thousand tenants' schemas against ten, and how many refreshes at a time an installation needs.

The many schemas are clones of one that dbt has built, each with an owner and a reader of its own. Both databases are
of one Postgres, whose roles they share. What refreshes take here is what the simulation of many organisations works
with; `build/service-times.json` keeps it for `python -m benchmarks.simulation`.
"""

import io
import json
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import mean, median

import psycopg

from benchmarks.figures import Benchmark, Figure, Target, machine, percentile
from benchmarks.progress import say
from benchmarks.replay import Installation, organization, replaying
from benchmarks.services import BenchmarkFailed, postgres_in, postgres_version, temporary_folder
from benchmarks.simulation import sizing
from benchmarks.simulation.panels import panel, said
from benchmarks.simulation.population import counts
from benchmarks.turns import Turns
from kiket_worker.dev import postgres
from kiket_worker.ledger import organizations
from kiket_worker.ledger.organizations import Plan
from kiket_worker.telemetry.logs import set_up_logs

TIMES = Path("build/service-times.json")
_ISSUES = 75
_LAG = sizing.interval(Plan.ENTERPRISE) / 10
# What a dump says beside what is dumped.
_NOT_CLONED = ("--", "\\", "SET ", "SELECT pg_catalog.")
_CLONES_AT_ONCE = 10
_ROLES = """
create role analytics_org_other_{n} login connection limit 8 in role analytics_tenants;
create role analytics_ro_other_{n} login connection limit 8 in role analytics_readers;
"""


@dataclass(frozen=True)
class Sizes:
    """How much is measured, and among how much."""

    few: int = 10
    many: int = 10_000
    turns: int = 9
    dbt_runs: int = 5
    organizations: int = 50_000
    aged_slots: int = 10_000


FULL = Sizes()
SHORT = Sizes(few=2, many=12, turns=1, dbt_runs=1, organizations=1000, aged_slots=16)


@dataclass(frozen=True)
class Cost:
    """Seconds of several refreshes: on the clock, and of the processors by client and server."""

    wall: float
    client: float
    server: float


def measure(short: bool) -> Benchmark:  # noqa: FBT001  # every benchmark is called so
    """Measure everything: about four minutes on two cores, in short form one."""
    set_up_logs(io.StringIO())  # As a worker writes them, but to nowhere.
    sizes = SHORT if short else FULL
    with temporary_folder() as folder, postgres_in(folder / "postgres") as admin_url:
        specs = tuple(organization(number, _ISSUES) for number in range(1, sizes.few + 1))
        say("recording dbt, twice")
        with (
            replaying(folder, admin_url, "bench", specs, aged_slots=sizes.aged_slots) as few,
            # In short form, which only shows that it works, one database is both: recording dbt takes longest.
            nullcontext(few)
            if short
            else replaying(folder, admin_url, "bench_many", specs, aged_slots=sizes.aged_slots) as many,
        ):
            for side in (few, many):
                _refresh_all(side, sizes)
            say(f"cloning {sizes.many - sizes.few} schemas")
            _clone_schemas(many, sizes.many - sizes.few)
            _quieten(few, many)
            say("refreshes")
            figures = _among_many(few, many, sizes)
            seconds = {"replay": _each(few, sizes.few, 3), "dbt itself": _by_dbt(few, sizes.dbt_runs)}
        say("simulations")
        for engine, found in seconds.items():
            figures.append(
                Figure(
                    f"service_seconds_{engine.partition(' ')[0]}",
                    mean(found),
                    "s",
                    f"mean of {len(found)} whole refreshes by {engine}, one after another: CPU of client and server,"
                    " which is their time where nothing else is at work; from"
                    f" {min(found):.3f} to {max(found):.3f}",
                )
            )
        figures += _simulated(seconds, sizes)
        if not short:
            TIMES.parent.mkdir(exist_ok=True)
            measured = {"measured": datetime.now(UTC).date().isoformat(), "seconds": seconds}
            TIMES.write_text(json.dumps(measured, indent=1) + "\n")
        return Benchmark("scale", machine(postgres=postgres_version(admin_url), rabbitmq="not used"), figures)


def _refresh_all(side: Installation, sizes: Sizes) -> Cost:
    began, client, server = time.perf_counter(), side.side.client_seconds(), side.side.server_seconds()
    for number in range(1, sizes.few + 1):
        side.side.refresh_of(f"bench-{number}")
    return Cost(
        (time.perf_counter() - began) / sizes.few,
        (side.side.client_seconds() - client) / sizes.few,
        (side.side.server_seconds() - server) / sizes.few,
    )


def _among_many(few: Installation, many: Installation, sizes: Sizes) -> list[Figure]:
    costs: dict[int, list[Cost]] = {0: [], 1: []}
    for turn in range(sizes.turns):
        for side in (0, 1) if turn % 2 else (1, 0):
            costs[side].append(_refresh_all((few, many)[side], sizes))
    how = (
        f"of a whole refresh of the core project by replay, {sizes.few} tenants each turn, in a database of"
        f" {sizes.many} tenants' schemas with its twelve relations each against one of {sizes.few}, both on a server"
        " that has the roles of all; autovacuum off meanwhile"
    )
    measured, reference = costs[1], costs[0]
    cpu = Turns([one.client + one.server for one in measured], [one.client + one.server for one in reference])
    wall = Turns([one.wall for one in measured], [one.wall for one in reference])
    return [
        cpu.figure("many_schemas_cpu_ratio", f"CPU, client and server, {how}", Target("<=", 1.2)),
        wall.figure("many_schemas_wall_ratio", f"time on the clock {how}", Target("<=", 1.2)),
        *(
            Figure(
                f"refresh_cpu_seconds_{name}",
                median(getattr(one, name) for one in reference),
                "s",
                f"CPU of {what} for one refresh by replay among {sizes.few}, median of {len(reference)} turns",
            )
            for name, what in (("client", "the worker"), ("server", "all processes of Postgres"))
        ),
    ]


def _each(side: Installation, tenants: int, rounds: int) -> list[float]:
    seconds = []
    for number in [*range(1, tenants + 1)] * rounds:
        began = side.side.cpu_seconds()
        side.side.refresh_of(f"bench-{number}")
        seconds.append(side.side.cpu_seconds() - began)
    return seconds


def _by_dbt(side: Installation, runs: int) -> list[float]:
    organizations.save_settings(side.services.database, 1, engine="executable")
    return _each(side, 1, runs)


def _clone_schemas(side: Installation, count: int) -> None:
    """As many more schemas as the first tenant's, each with an owner and a reader of its own."""
    dump = postgres.programs_folder() / "pg_dump"
    done = subprocess.run(
        [
            dump,
            *("--schema-only", "--no-owner", "--no-privileges", "--schema=analytics_org_bench_1"),
            f"--dbname={side.superuser_url}",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in done.stdout.splitlines() if not line.startswith(_NOT_CLONED)]
    text = "\n".join(lines).replace("_bench_1", "_other_{n}")
    made = "CREATE SCHEMA analytics_org_other_{n};"
    text = text.replace(
        made, f"{made[:-1]} authorization analytics_org_other_{{n}}; set role analytics_org_other_{{n}};"
    )
    if "_other_{n}.fct_throughput" not in text:
        raise BenchmarkFailed("the first tenant's schema has not what dbt builds")

    def clone(part: int) -> None:
        with psycopg.connect(side.superuser_url, autocommit=True) as connection:
            connection.execute("set synchronous_commit = off")
            for first in range(1 + part * _CLONES_AT_ONCE, count + 1, 2 * _CLONES_AT_ONCE):
                numbers = [str(number) for number in range(first, min(first + _CLONES_AT_ONCE, count + 1))]
                connection.execute(
                    "".join((_ROLES + text + "reset role;").replace("{n}", number) for number in numbers).encode()
                )

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(clone, range(2)))


def _quieten(few: Installation, many: Installation) -> None:
    """Do what autovacuum would, on both sides, and let it not begin while either is measured."""
    for side in (few, many):
        with psycopg.connect(side.superuser_url, autocommit=True) as superuser:
            superuser.execute("alter system set autovacuum = off")
            superuser.execute("select pg_reload_conf()")
            for catalog in (
                "pg_class",
                "pg_attribute",
                "pg_depend",
                "pg_type",
                "pg_namespace",
                "pg_authid",
                "pg_index",
            ):
                superuser.execute(f"vacuum (analyze) pg_catalog.{catalog}".encode())
            superuser.execute("checkpoint")


def _simulated(seconds: dict[str, list[float]], sizes: Sizes) -> list[Figure]:
    """The formula against the simulation, with the service times that were measured just now."""
    of_plans = counts(sizes.organizations)
    figures: list[Figure] = []
    for engine, found in seconds.items():
        name = engine.partition(" ")[0]
        outcome = sizing.herd(of_plans, _formula(of_plans, mean(found)).threads, _drawn_from(found))
        urgencies = [run.message.urgency or 0.0 for run in outcome.runs if run.message.queued_at == sizing.BEGAN]
        began = sorted(outcome.runs, key=lambda run: (run.started_at, -(run.message.urgency or 0.0)))
        first = [run.message.urgency or 0.0 for run in began if run.message.queued_at == sizing.BEGAN]
        late = sum(later > earlier for earlier, later in pairwise(first))
        what = f"{sizes.organizations} organisations after an outage of a day, {engine}"
        figures += [
            Figure(
                f"herd_enterprise_lag_share_{name}",
                sizing.latest(outcome, Plan.ENTERPRISE) / sizing.interval(Plan.ENTERPRISE).total_seconds(),
                "ratio",
                f"p99 of the start lag of enterprise organisations against their interval, {what}, with the"
                f" {_formula(of_plans, mean(found)).threads} threads of the formula; simulated for four hours",
                Target("<=", 0.1),
            ),
            Figure(
                f"herd_overtaken_{name}",
                late + 1e-9,
                "runs",
                f"runs of the {len(urgencies)} due at once that began after one less overdue for its interval, {what}",
                Target("<=", 0.5),
            ),
        ]
        figures += _lags(name, found, sizes)
    slow = seconds["dbt itself"]
    return [*figures, *_confirmed(of_plans, slow, sizes)]


def _lags(engine: str, seconds: Sequence[float], sizes: Sizes) -> Iterator[Figure]:
    """The lag of each plan with the formula's threads; in words with fewer and more."""
    for situation, after_outage in (("hour", False), ("outage", True)):
        shown = panel(engine, seconds, sizes.organizations, after_outage=after_outage)
        for plan, line in shown.lines.items():
            (at_formula,) = (point for point in line if point.threads == shown.formula)
            yield Figure(
                f"lag_p99_{situation}_{plan}_{engine}",
                at_formula.p99,
                "s",
                f"{plan}'s start lag with the {shown.formula} threads of the formula, {shown.title},"
                f" {sizes.organizations} organisations; {said(line)}",
            )


def _confirmed(of_plans: dict[Plan, int], seconds: Sequence[float], sizes: Sizes) -> list[Figure]:
    by_formula = _formula(of_plans, mean(seconds))
    draw = _drawn_from(seconds)

    def in_time_after_outage(threads: int) -> bool:
        return sizing.latest(sizing.herd(of_plans, threads, draw), Plan.ENTERPRISE) <= _LAG.total_seconds()

    def in_time_in_an_hour(threads: int) -> bool:
        lags = sizing.lags(sizing.hour(of_plans, threads, draw).runs)
        return all(percentile(found, 99) <= _LAG.total_seconds() for found in lags.values())

    figures = []
    for name, holds, threads in (
        ("sizing_after_outage_ratio", in_time_after_outage, float(by_formula.threads)),
        ("sizing_hour_ratio", in_time_in_an_hour, by_formula.steady),
    ):
        fewest = sizing.fewest(holds, max(2, 2 * by_formula.threads))
        figures.append(
            Figure(
                name,
                max(fewest / threads, threads / fewest),
                "ratio",
                f"{threads:.3g} threads by the formula, {fewest} are the fewest in the simulation of"
                f" {sizes.organizations} organisations refreshed by dbt itself in {mean(seconds):.2f} s of CPU each, so"
                f" that enterprise organisations' p99 lag is at most {_LAG}; the larger divided by the smaller",
                Target("<=", 1.1),
            )
        )
    return figures


def _formula(of_plans: dict[Plan, int], service_seconds: float) -> sizing.Needed:
    return sizing.needed(of_plans, service_seconds, plan=Plan.ENTERPRISE, lag=_LAG)


def _drawn_from(seconds: Sequence[float]) -> Callable[[Random], float]:
    return lambda random: random.choice(seconds)
