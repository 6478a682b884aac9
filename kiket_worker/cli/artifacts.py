"""`kiket-worker artifacts`: what runs have left, brought back, checked, and removed when it is old."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from kiket_worker.artifacts import retention
from kiket_worker.artifacts.reading import faults
from kiket_worker.artifacts.restoring import restore
from kiket_worker.artifacts.retention import Removed
from kiket_worker.artifacts.store import Store, store_of
from kiket_worker.cli.output import JsonOption, print_json, print_table
from kiket_worker.errors import UsageError
from kiket_worker.ledger import archives, organizations, runs
from kiket_worker.ledger.archives import Archived
from kiket_worker.ledger.database import Database
from kiket_worker.settings import load_settings
from kiket_worker.telemetry.logs import silence_logs

app = typer.Typer(help="What runs have left: list, bring back, check, remove when old.", no_args_is_help=True)

_FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]

OrganizationOption = Annotated[str | None, typer.Option(help="Only this organisation's, by slug.")]
SinceOption = Annotated[datetime | None, typer.Option(formats=_FORMATS, help="Only runs queued from here on (UTC).")]
UntilOption = Annotated[datetime | None, typer.Option(formats=_FORMATS, help="Only runs queued before this (UTC).")]


@app.command("list")
def list_artifacts(
    organization: OrganizationOption = None,
    run: Annotated[UUID | None, typer.Option(help="Only this run's.")] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 50,
    json: JsonOption = False,
) -> None:
    """Sets of artifacts by the ledger, newest first, also those that were pruned."""
    with Database(load_settings().database_url.get_secret_value()) as database:
        found = list(islice(_chosen(database, run, organization, since, until), limit))
    if json:
        print_json([_document(one) for one in found])
    else:
        columns = ["run", "organisation", "attempt", "status", "archived", "pruned", "location"]
        print_table(columns, (list(_document(one).values()) for one in found))


@app.command("fetch")
def fetch(
    run_id: UUID,
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME...", show_default=False)] = None,
    attempt: Annotated[int | None, typer.Option(min=1, help="Another attempt than the run's archived one.")] = None,
    to: Annotated[Path | None, typer.Option(help="The folder to write to; by default one named by the run.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
    json: JsonOption = False,
) -> None:
    """Bring a run's files back as they were, unpacked and compared with their checksums; all, or those named."""
    with _services() as (database, store):
        wanted = _set_of(database, store, run_id, attempt)
    restored = restore(
        store, wanted.prefix, to or Path(str(run_id)), names or (), index_sha256=wanted.index_sha256, overwrite=force
    )
    if json:
        print_json([asdict(file) for file in restored])
    else:
        print_table(["file", "bytes"], ([file.path, file.size] for file in restored))


@app.command("verify")
def verify(
    run_id: Annotated[UUID | None, typer.Argument(show_default=False)] = None,
    organization: OrganizationOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    json: JsonOption = False,
) -> None:
    """Read sets and make all checksums anew, the index's too, which the ledger has; exit 1 if something is damaged.

    Each damaged or missing file is named; sets that were pruned are only counted. Without RUN_ID and options, all sets.
    """
    verified = pruned = 0
    found: list[str] = []
    with _services() as (database, store):
        if run_id:
            _set_of(database, store, run_id, attempt=None, pruned_too=True)
        for one in _chosen(database, run_id, organization, since, until):
            complaints = [] if one.pruned_at else list(_complaints(store, one))
            # Asked again only where something is missing: it may have been pruned since the ledger was read.
            if one.pruned_at or (complaints and _is_pruned(database, one)):
                pruned += 1
                continue
            verified += 1
            found += complaints
            for complaint in complaints if not json else ():
                typer.echo(complaint)
    if json:
        print_json({"verified": verified, "pruned": pruned, "faults": found})
    else:
        typer.echo(f"{_counted(verified, 'set')} verified, {pruned} pruned, {_counted(len(found), 'fault')}")
    if found:
        raise typer.Exit(1)


@app.command("prune")
def prune(
    keep_days: Annotated[int, typer.Option(min=1, max=36_500, help="Days for which sets are kept.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    json: JsonOption = False,
) -> None:
    """Remove sets that are older, but never the last successful one of an organisation, and what the killed have left.

    Leftovers are files without an index and unfinished uploads, both when they are older than a day.
    """
    removed: list[Removed] = []
    verb = "would remove" if dry_run else "removed"
    with _services() as (database, store):
        for one in retention.prune(store, database, keep_days=keep_days, now=datetime.now(UTC), dry_run=dry_run):
            removed.append(one)
            if not json:
                typer.echo(f"{verb} {one.what} {one.location}: {_counted(one.files, 'file')}, {one.size} bytes")
    counts = Counter(one.what for one in removed)
    size = sum(one.size for one in removed)
    if json:
        print_json({"dry_run": dry_run, "bytes": size, "removed": [_removed_document(one) for one in removed]})
    else:
        counted = ", ".join(_counted(counts[what], what) for what in retention.What)
        typer.echo(f"{verb} {counted}: {size} bytes")


@dataclass(frozen=True)
class _Wanted:
    prefix: str
    index_sha256: str | None


def _set_of(
    database: Database, store: Store, run_id: UUID, attempt: int | None, *, pruned_too: bool = False
) -> _Wanted:
    """Where a run's set is, and the checksum of its index if the ledger has that. Raises `UsageError`."""
    run, archived = runs.get(database, run_id), archives.find(database, run_id)
    if attempt is not None and (archived is None or archived.attempt != attempt):
        return _Wanted(f"{run.organization_slug}/{run_id}/{attempt}", None)
    if archived is None:
        raise UsageError(f"run {run_id} has no artifacts: it is {run.status}")
    if archived.pruned_at and not pruned_too:
        raise UsageError(f"the artifacts of run {run_id} were pruned at {archived.pruned_at:%Y-%m-%d %H:%M:%S}Z")
    if store.location(archived.prefix) != archived.location:
        raise UsageError(_elsewhere(archived))
    return _Wanted(archived.prefix, archived.index_sha256)


def _chosen(
    database: Database, run_id: UUID | None, organization: str | None, since: datetime | None, until: datetime | None
) -> Iterator[Archived]:
    organization_id = organizations.find(database, organization).organization_id if organization else None
    return archives.newest(
        database,
        run_id=run_id,
        organization_id=organization_id,
        start_at=since and since.replace(tzinfo=UTC),
        end_at=until and until.replace(tzinfo=UTC),
    )


def _complaints(store: Store, archived: Archived) -> Iterator[str]:
    if store.location(archived.prefix) != archived.location:
        yield _elsewhere(archived)
    else:
        yield from faults(store, archived.prefix, archived.index_sha256)


def _is_pruned(database: Database, archived: Archived) -> bool:
    now = archives.find(database, archived.run_id)
    return now is not None and now.pruned_at is not None


def _elsewhere(archived: Archived) -> str:
    return f"{archived.location} is not in the store that ARTIFACTS_URL names"


def _document(archived: Archived) -> dict[str, object]:
    return {
        "run_id": archived.run_id,
        "organization": archived.organization_slug,
        "attempt": archived.attempt,
        "status": archived.status,
        "archived_at": archived.archived_at,
        "pruned_at": archived.pruned_at,
        "location": archived.location,
    }


def _removed_document(removed: Removed) -> dict[str, object]:
    return {"what": removed.what, "location": removed.location, "files": removed.files, "bytes": removed.size}


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@contextmanager
def _services() -> Iterator[tuple[Database, Store]]:
    silence_logs()
    settings = load_settings()
    store = store_of(settings)
    with Database(settings.database_url.get_secret_value()) as database:
        yield database, store
