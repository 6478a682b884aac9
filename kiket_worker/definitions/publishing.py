"""Publishing: a definition repository becomes an immutable version, and organisations are switched to it.

What is published is checked beside the organisation's other overlays, so it counts only for as long as those are the
current ones: whoever was overtaken in the meantime begins again.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory

from kiket_worker import events
from kiket_worker.artifacts.store import Store
from kiket_worker.contract import Reason
from kiket_worker.dbt.bundle import Bundle
from kiket_worker.dbt.composition import compose
from kiket_worker.dbt.overlay import DEFAULT_NAME, Overlay
from kiket_worker.dbt.published import fetch_overlays, store_overlay
from kiket_worker.definitions.problem import Problem
from kiket_worker.definitions.validation import Validation
from kiket_worker.errors import DefinitionsBusy, DefinitionsRefused, KiketError, ServiceUnreachable
from kiket_worker.ledger import definitions, runs
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.definitions import NewVersion, Version
from kiket_worker.ledger.organizations import Organization
from kiket_worker.ledger.runs import Request, RunId
from kiket_worker.tenants.schema import schema_name

# How often others may be quicker before it is given up.
_TRIES = 10
# After so many organisations in a row for which a service was not there, it is not tried for the rest.
_MOST_UNREACHABLE = 3


# Checks the repository beside the other overlays that an organisation has, by their names.
Validate = Callable[[Mapping[str, Overlay]], Validation]


class Result(StrEnum):
    """What became of publishing for one organisation."""

    PUBLISHED = "published"
    ROLLED_BACK = "rolled_back"
    UNCHANGED = "unchanged"
    VALID = "valid"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True)
class Published:
    """What became of one organisation. `run_id` is the refresh that was asked for, if one was.

    `version` is the current one then, and None where there is none, or where that is not known. `texts` are the files
    that problems are about.
    """

    slug: str
    result: Result
    version: int | None = None
    bundle_digest: str | None = None
    run_id: RunId | None = None
    problems: tuple[Problem, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    fault: KiketError | None = None

    @property
    def has_failed(self) -> bool:
        """Whether the organisation is not where it should be."""
        return self.result in {Result.REFUSED, Result.FAILED}


@dataclass(frozen=True)
class Publication:
    """What is published under which name, and who says so."""

    validate: Validate
    name: str = DEFAULT_NAME
    author: str | None = None
    source_commit: str | None = None
    dry_run: bool = False


@dataclass(frozen=True)
class Publisher:
    """Publishes to organisations of one installation; `core` is the project that overlays are composed with."""

    database: Database
    store: Store
    core: Bundle

    def publish(self, publication: Publication, organizations: Sequence[Organization]) -> Iterator[Published]:
        """Publish to each, and tell how it went as it goes. What goes wrong for one does not keep the others from it.

        Checked once for all organisations that have the same other overlays.
        """
        checks = _Checks(self, publication)
        unreachable: list[ServiceUnreachable] = []
        for organization in organizations:
            if len(unreachable) >= _MOST_UNREACHABLE:
                yield Published(organization.slug, Result.FAILED, fault=unreachable[-1])
                continue
            try:
                yield self._publish(publication, checks, organization)
            except ServiceUnreachable as fault:
                unreachable.append(fault)
                yield Published(organization.slug, Result.FAILED, fault=fault)
                continue
            except KiketError as fault:
                yield Published(organization.slug, Result.FAILED, fault=fault)
            unreachable.clear()

    def others(self, organization: Organization, name: str) -> dict[str, Overlay]:
        """The overlays that an organisation has beside the one of this name. Raises what the store raises."""
        current = definitions.current(self.database, organization.organization_id)
        overlays = current.overlays if current else {}
        return fetch_overlays(self.store, {other: digest for other, digest in overlays.items() if other != name})

    def roll_back(self, organization: Organization, to: int) -> Published:
        """Switch an organisation to the definitions of an earlier version, which becomes a new one.

        Raises `UnknownVersion`, `OverlayDamaged` for a version of which something is lost, and `DefinitionsBusy`.
        """
        wanted = definitions.get(self.database, organization.organization_id, to)
        # Read and verified before anybody is switched to it.
        bundle_digest = _digest(self.core, fetch_overlays(self.store, wanted.overlays))
        new = NewVersion(wanted.overlays, bundle_digest, rolled_back_to=to)
        for _ in range(_TRIES):
            current = definitions.current(self.database, organization.organization_id)
            assert current is not None  # There is the one to go back to.
            if current.overlays == wanted.overlays:
                return Published(organization.slug, Result.UNCHANGED, current.version, bundle_digest)
            if switched := self._switch(organization, current.version, new):
                version, run_id = switched
                events.DEFINITIONS_ROLLED_BACK.log(
                    organization=organization.slug, definitions_version=version.version, bundle_digest=bundle_digest
                )
                return Published(organization.slug, Result.ROLLED_BACK, version.version, bundle_digest, run_id)
        raise _overtaken(organization)

    def _publish(self, publication: Publication, checks: "_Checks", organization: Organization) -> Published:
        slug = organization.slug
        schema_name(slug)
        for _ in range(_TRIES):
            current = definitions.current(self.database, organization.organization_id)
            number, overlays = (current.version, current.overlays) if current else (None, {})
            others = {name: digest for name, digest in overlays.items() if name != publication.name}
            check = checks.beside(others)
            problems, new = check.validation.problems, check.new
            if new is None:
                fault = DefinitionsRefused("the repository has errors: `kiket-worker definitions validate` shows them")
                texts = check.validation.texts
                return Published(slug, Result.REFUSED, number, problems=problems, texts=texts, fault=fault)
            is_current = new.overlays == overlays
            if not publication.dry_run:
                # Also of what is current: what was lost or damaged in the store is put right by publishing it again.
                checks.store(check.validation.overlay)
            if is_current or publication.dry_run:
                result = Result.UNCHANGED if is_current else Result.VALID
                return Published(slug, result, number, new.bundle_digest, problems=problems)
            if switched := self._switch(organization, number or 0, new):
                version, run_id = switched
                events.DEFINITIONS_PUBLISHED.log(
                    organization=slug, definitions_version=version.version, bundle_digest=new.bundle_digest
                )
                return Published(slug, Result.PUBLISHED, version.version, new.bundle_digest, run_id, problems)
        raise _overtaken(organization)

    def _switch(self, organization: Organization, after: int, new: NewVersion) -> tuple[Version, RunId | None] | None:
        """Switch it and ask for a refresh, both or neither; None where somebody else has switched it since."""
        definitions.check_texts(new)
        with self.database.transaction() as connection:
            version = definitions.switch(connection, organization.organization_id, after, new)
            if version is None:
                return None
            if not organization.enabled or organization.quarantine_reason:
                return version, None
            wanted = Request(
                organization.organization_id, organization.slug, Reason.SYNC, requested_by=new.author or None
            )
            return version, runs.request_with(connection, wanted).run_id


@dataclass(frozen=True)
class _Check:
    """A repository as it was found beside some other overlays; `new` is what they make together, if it is valid."""

    validation: Validation
    new: NewVersion | None


class _Checks:
    """The checks of one repository, one for each set of other overlays, and the storing of what they let through."""

    def __init__(self, publisher: Publisher, publication: Publication) -> None:
        self._publisher = publisher
        self._publication = publication
        self._made: dict[frozenset[tuple[str, str]], _Check] = {}
        self._stored: set[str] = set()

    def beside(self, others: Mapping[str, str]) -> _Check:
        key = frozenset(others.items())
        if key not in self._made:
            self._made[key] = self._check(others)
        return self._made[key]

    def store(self, overlay: Overlay) -> None:
        """Store it: before the ledger names it, so that no version is without its content."""
        if overlay.files and overlay.digest not in self._stored:
            store_overlay(self._publisher.store, overlay)
            self._stored.add(overlay.digest)

    def _check(self, others: Mapping[str, str]) -> _Check:
        name = self._publication.name
        overlays = fetch_overlays(self._publisher.store, others)
        validation = self._publication.validate(overlays)
        if not validation.is_valid:
            return _Check(validation, None)
        # A repository with nothing in it takes its name out.
        mine = {name: validation.overlay} if validation.overlay.files else {}
        new = NewVersion(
            {**others, **{name: overlay.digest for name, overlay in mine.items()}},
            _digest(self._publisher.core, {**overlays, **mine}),
            name=name,
            author=self._publication.author,
            source_commit=self._publication.source_commit,
        )
        return _Check(validation, new)


def _digest(core: Bundle, overlays: Mapping[str, Overlay]) -> str:
    if not overlays:
        return core.digest
    with TemporaryDirectory(prefix="kiket-publish-") as folder:
        return compose(core, overlays, Path(folder)).digest


def _overtaken(organization: Organization) -> DefinitionsBusy:
    return DefinitionsBusy(
        f"the definitions of {organization.slug} were changed by others {_TRIES} times while these were checked"
    )
