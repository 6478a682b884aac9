"""What it costs to keep organisations apart: gates, provisioning, logins and refreshes, each against doing without.

All figures are ratios of two sides that are measured in turns. "Few" and "many" tenants are two Postgres servers,
because roles belong to a whole server: one has ten tenants, the other ten thousand.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from benchmarks import refreshes, tenants
from benchmarks.figures import Benchmark, Figure, Target, machine
from benchmarks.services import BenchmarkFailed, postgres_in, postgres_version, temporary_folder
from benchmarks.tenants import Tenants
from benchmarks.turns import Turns, in_turns
from kiket_worker.ledger.database import Connection
from kiket_worker.tenants.login import Login

FEW = 9
# Tenants provisioned before the measured ones, so that each session has read the functions and the catalogs.
_WARM_UP = 5


@dataclass(frozen=True)
class Sizes:
    """How much is measured, and among how much."""

    tenants: int = 10_000
    issues: int = 1_000_000
    organizations_with_issues: int = 1000
    queries: int = 61
    provisioned: int = 50
    logins: int = 300
    refresh_pairs: int = 5


FULL = Sizes()
SHORT = Sizes(
    tenants=40,
    issues=5000,
    organizations_with_issues=25,
    queries=3,
    provisioned=3,
    logins=5,
    refresh_pairs=1,
)


@dataclass(frozen=True)
class Query:
    """A select of one organisation, as a model has it: `{raw}` is where the raw tables are, `{id}` the organisation's.

    The same text is sent to the gates and to the raw tables; models name their organisation in either case.
    """

    name: str
    text: str
    what: str
    organization: int = 1
    target: Target | None = None
    shows_plans: bool = False

    def at(self, raw_schema: str) -> bytes:
        """The statement for the gates or for the raw tables."""
        return self.text.format(raw=raw_schema, id=self.organization).encode()


QUERIES = (
    Query(
        "gate_aggregate_ratio",
        "select project_id, (completed_at at time zone 'utc')::date, count(*) from {raw}.issues"
        " where organization_id = {id} and status = 'done' and issue_type <> 'epic' and completed_at is not null"
        " group by 1, 2",
        "an aggregate of all its issues, that of the model fct_throughput",
        target=Target("<=", 1.1),
    ),
    Query(
        "gate_bare_aggregate_ratio",
        "select project_id, status, count(*), sum(story_points) from {raw}.issues where organization_id = {id}"
        " group by project_id, status",
        "an aggregate that does next to nothing with each row, which shows what a gate costs a row: Postgres makes it a"
        " row of all columns of the gate, be they asked for or not; hence without a target",
    ),
    Query(
        "gate_incremental_ratio",
        "select project_id, completed_at::date, count(*), sum(story_points) from {raw}.issues"
        " where organization_id = {id} and completed_at >= now() - interval '30 days' group by 1, 2",
        "an aggregate of its issues of the last 30 days of 548, which an index finds",
        target=Target("<=", 1.1),
    ),
    Query(
        "gate_join_ratio",
        "select project.key, count(*), sum(issue.story_points) from {raw}.issues as issue"
        " join {raw}.projects as project on project.id = issue.project_id"
        " where issue.organization_id = {id} and project.organization_id = {id} group by project.key",
        "a join of all its issues with its projects",
        target=Target("<=", 1.5),
        shows_plans=True,
    ),
    Query(
        "gate_short_join_ratio",
        "select project.key, count(*), sum(issue.story_points) from {raw}.issues as issue"
        " join {raw}.projects as project on project.id = issue.project_id"
        " where issue.organization_id = {id} and project.organization_id = {id}"
        " and issue.completed_at >= now() - interval '30 days' group by project.key",
        "the same join for one of the small organisations and 30 days: so short that the fixed cost of a gate, asking"
        " whose session it is and a longer plan, is most of the difference; hence without a target",
        organization=2,
        shows_plans=True,
    ),
)


def measure(short: bool) -> Benchmark:  # noqa: FBT001  # every benchmark is called so
    """Measure everything: about three minutes on two cores, in short form half a minute."""
    sizes = SHORT if short else FULL
    with (
        temporary_folder() as folder,
        postgres_in(folder / "few" / "postgres") as few_url,
        postgres_in(folder / "many" / "postgres") as many_url,
    ):
        new = _WARM_UP + sizes.provisioned
        few = tenants.create(folder / "few", few_url, organizations=FEW + new)
        many = tenants.create(folder / "many", many_url, organizations=sizes.tenants)
        _say(f"provisioning {sizes.tenants} tenants")
        few.provision_all(1, FEW)
        many.provision_all(1, sizes.tenants - new)
        figures = _provisioning(few, many, sizes)
        _say(f"loading {sizes.issues} issues")
        many.load_issues(issues=sizes.issues, organizations=sizes.organizations_with_issues)
        many.analyze()
        _say("gates")
        figures += _gates(many, sizes)
        _say("logins")
        figures += _logins(many, sizes)
        _say("refreshes")
        figures += refreshes.measure(folder / "few", few_url, pairs=sizes.refresh_pairs, short=short)
        _say("done")
        return Benchmark("isolation", machine(postgres=postgres_version(many_url), rabbitmq="not used"), figures)


def _provisioning(few: Tenants, many: Tenants, sizes: Sizes) -> list[Figure]:
    """New tenants, those tenants once more, and the look whether they need it: among many against among few."""
    few.analyze()
    many.analyze()
    new_of_few = range(FEW + 1, FEW + 1 + _WARM_UP + sizes.provisioned)
    new_of_many = range(sizes.tenants + 1 - len(new_of_few), sizes.tenants + 1)
    with tenants.ledger_session(few) as few_session, tenants.ledger_session(many) as many_session:

        def turns(
            work: Callable[[Tenants, Connection, int], None], first: int, count: int = sizes.provisioned
        ) -> Turns:
            return in_turns(
                count,
                lambda turn: work(many, many_session, new_of_many[first + turn]),
                lambda turn: work(few, few_session, new_of_few[first + turn]),
            )

        turns(Tenants.provision, 0, _WARM_UP)
        made = turns(Tenants.provision, _WARM_UP)
        again = turns(Tenants.provision, _WARM_UP)
        looked = turns(Tenants.expect_no_drift, _WARM_UP)
    where = (
        f"the {new_of_many[_WARM_UP]}th to {sizes.tenants}th tenant of one Postgres against the"
        f" {new_of_few[_WARM_UP]}th to {new_of_few[-1]}th of another, each in a transaction of its own as kiket_ledger"
    )
    return [
        made.figure("provisioning_ratio", f"making {where}", Target("<=", 1.2)),
        again.figure("provisioning_again_ratio", f"provisioning once more, where nothing has changed, {where}"),
        looked.figure("drift_query_ratio", f"asking what differs from provisioning, which is nothing, of {where}"),
    ]


def _gates(many: Tenants, sizes: Sizes) -> list[Figure]:
    """Each query through the gates as the organisation's role, against the raw tables as a role that may read them."""
    direct = many.create_reader("bench_reader", server_hashes=False)
    return [_gate(many, query, direct, sizes) for query in QUERIES]


def _gate(many: Tenants, query: Query, direct: Login, sizes: Sizes) -> Figure:
    own = many.login(query.organization)
    with many.connect(own) as gated, many.connect(direct) as raw:
        through_gates, of_tables = query.at("analytics_raw"), query.at("public")
        if not (rows := _rows(raw, of_tables)) or rows != _rows(gated, through_gates):
            raise BenchmarkFailed(f"{query.name}: the gates do not give what the raw tables give")
        turns = in_turns(
            sizes.queries,
            lambda _: gated.execute(through_gates).fetchall(),
            lambda _: raw.execute(of_tables).fetchall(),
        )
        how = f"{query.what}; an organisation with {_issues_of(raw, query.organization)} of {sizes.issues} issues"
        if query.shows_plans:
            how += f"; plan through gates: {_plan(gated, through_gates)}; direct: {_plan(raw, of_tables)}"
    return turns.figure(query.name, how, query.target)


def _logins(many: Tenants, sizes: Sizes) -> list[Figure]:
    """Connect, ask one thing, close: as one organisation after another, against always the same login."""
    alike = many.create_reader("bench_alike", server_hashes=False)
    usual = many.create_reader("bench_usual", server_hashes=True)
    # Far apart, so that no two are neighbours in an index.
    own = [many.login(1 + 7919 * turn % sizes.tenants) for turn in range(sizes.logins)]

    def visits_as_tenants_and(shared: Login) -> Turns:
        in_turns(_WARM_UP, lambda turn: _visit(many, own[turn]), lambda _: _visit(many, shared))
        return in_turns(sizes.logins, lambda turn: _visit(many, own[turn]), lambda _: _visit(many, shared))

    how = (
        f"connect, select 1, close by SCRAM at a socket among {sizes.tenants} tenants, as another tenant each time"
        " against one shared login"
    )
    return [
        visits_as_tenants_and(alike).figure(
            "connect_ratio", f"{how}, whose password is hashed once as theirs is", Target("<=", 1.2)
        ),
        visits_as_tenants_and(usual).figure(
            "connect_ratio_usual_password", f"{how}, whose password is hashed 4,096 times, Postgres' default"
        ),
    ]


def _rows(connection: Connection, query: bytes) -> list[str]:
    return sorted(map(str, connection.execute(query).fetchall()))


def _visit(many: Tenants, login: Login) -> None:
    with many.connect(login) as connection:
        connection.execute("select 1").fetchone()


def _issues_of(raw: Connection, organization: int) -> int:
    row = raw.execute("select count(*) as issues from public.issues where organization_id = %s", [organization])
    return int(row.fetchall()[0]["issues"])


def _plan(connection: Connection, query: bytes) -> str:
    (row,) = connection.execute(b"explain (format json) " + query).fetchall()
    return _brief(row["QUERY PLAN"][0]["Plan"])


def _brief(node: dict[str, Any]) -> str:
    """A plan by its nodes' names, each with those below it in brackets."""
    name = node["Node Type"]
    if place := node.get("Index Name") or node.get("Relation Name"):
        name += f" of {place}"
    below = ", ".join(_brief(child) for child in node.get("Plans", ()))
    return f"{name} ({below})" if below else name


def _say(what: str) -> None:
    sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S} {what}\n")
    sys.stderr.flush()
