"""What an organisation's failures mean. Takes values and gives findings: no clock, no database."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

from kiket_worker.doctor.finding import Finding, at, error, warning
from kiket_worker.ledger.organizations import Organization
from kiket_worker.tenants.gates import GATES_SCHEMA

# Postgres' words for people, which are English unless somebody has set lc_messages; others say nothing to this.
_DENIED = re.compile(r"permission denied for (?:\w+ )?(\w+) \"?([A-Za-z0-9_]+)\"?")
_NOT_OWNER = re.compile(r"must be owner of (?:\w+ )?(\w+)")
_ABSENT = re.compile(r'relation "([A-Za-z0-9_.]+)" does not exist')


def explain_failures(
    organization: Organization,
    progress: Mapping[str, Any],
    failed_models: Iterable[Mapping[str, Any]],
    *,
    known_models: Set[str],
    gates: Set[str],
) -> Iterator[Finding]:
    """What the newest failure is, and what Postgres' words about its models mean here.

    `progress` is the row of `sql/progress.sql`, `failed_models` those of `sql/failed_models.sql`; `known_models` are
    the bundle's, `gates` the names on the list.
    """
    slug = organization.slug
    run = progress["failed_run_id"]
    if run:
        yield error(
            "failing",
            f"{slug} fails since {at(progress['failing_since'])}, {progress['failures']} times; last success "
            f"{at(progress['succeeded_at'])}; now {progress['error_kind']}: {_line(progress['error_message'])}",
            f"`kiket-worker runs show {run}` has the whole error; docs/operations.md explains {progress['error_kind']}",
            slug,
        )
        for row in failed_models:
            yield from _model_faults(slug, row, gates)
        yield from _selection(slug, progress["failed_selection"] or (), known_models)
    elif progress["succeeded_at"] and organization.interval_hours:
        age_hours = (progress["now"] - progress["succeeded_at"]).total_seconds() / 3600
        if organization.enabled and age_hours > 2 * organization.interval_hours:
            yield warning(
                "lagging",
                f"the last success of {slug} is {age_hours:.1f} h old, and it should be refreshed every "
                f"{organization.interval_hours} h",
                "start more workers, or see the other findings",
                slug,
            )
    if progress["sync_run_id"]:
        yield error(
            "sync_failed",
            f"the refresh after the last change of {slug}'s definitions failed with "
            f"{progress['sync_error_kind']}: {_line(progress['sync_error_message'])}",
            f"mend the definitions and sync again; `kiket-worker runs show {progress['sync_run_id']}` has the error",
            slug,
        )


def _model_faults(slug: str, row: Mapping[str, Any], gates: Set[str]) -> Iterator[Finding]:
    model, message = row["model_id"].rpartition(".")[2], row["message"]
    if denied := _DENIED.search(message):
        yield _denied(slug, model, denied[1], denied[2], gates)
    elif absent := _ABSENT.search(message):
        yield error(
            "relation_absent",
            f"model {model} of {slug} reads {absent[1]}, which is not there",
            "see whether a model of that name failed or is missing in the bundle, or a raw table is not listed; "
            f"then `kiket-worker refresh {slug}`",
            slug,
        )
    elif owned := _NOT_OWNER.search(message):
        yield error(
            "relation_owned_by_another",
            f"model {model} of {slug} cannot replace {owned[1]}, which another role owns",
            f"run `kiket-worker tenants provision {slug}` with the DATABASE_URL of a superuser",
            slug,
        )


def _denied(slug: str, model: str, kind: str, name: str, gates: Set[str]) -> Finding:
    what = f"model {model} of {slug} may not use {name}"
    if name in gates or name == GATES_SCHEMA:
        return error(
            "permission_denied",
            f"{what}, a gate that it should be able to read",
            "run `kiket-worker migrate --roles` with the DATABASE_URL of a superuser, then "
            f"`kiket-worker tenants provision {slug}`",
            slug,
        )
    return error(
        "permission_denied",
        f"{what} ({kind} {name}): organisations read raw tables through the gates, shared models, and their own schema",
        "let the model read `{{ source('raw', …) }}`; if its raw table is on no list, add it to the list of gates "
        "(KIKET_GATES_FILE) and run `kiket-worker migrate --roles`",
        slug,
    )


def _selection(slug: str, selection: Sequence[str], known_models: Set[str]) -> Iterator[Finding]:
    for item in selection:
        name = item.strip("+@0123456789")
        if re.fullmatch(r"[A-Za-z0-9_]+", name) and name not in known_models:
            yield error(
                "model_not_in_bundle",
                f"{item} was asked for, and no model of {slug}'s bundle has that name",
                "correct the name, or publish the definitions that have the model",
                slug,
            )


def _line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]
