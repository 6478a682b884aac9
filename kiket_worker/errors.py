"""The tree of errors: what can go wrong, named once.

Every error has a `kind`, stable because the ledger stores it and alerts select by it; a message for people that
names the thing and the remedy; and says whether trying again, with nothing changed, can help.
"""

import traceback
from typing import ClassVar


class KiketError(Exception):
    """Something went wrong that the product knows by name. `exit_code` is the command line's answer to it."""

    kind: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1


class UsageError(KiketError):
    """Asked for something that cannot be: wrong settings, an unknown name."""

    kind = "wrong_use"
    exit_code = 2


class InvalidSetting(UsageError):
    """An environment variable is missing or malformed."""

    kind = "invalid_setting"


class UnknownOrganization(UsageError):
    """No organisation has this slug."""

    kind = "organization_unknown"

    def __init__(self, slug: str) -> None:
        super().__init__(f"no organisation has the slug {slug!r}; `kiket-worker settings list` names those there are")


class OrganizationDisabled(UsageError):
    """The organisation has not opted in, or is paused."""

    kind = "organization_disabled"

    def __init__(self, slug: str) -> None:
        super().__init__(
            f"analytics is not enabled for organisation {slug!r}; enable it with "
            f"`kiket-worker settings set {slug} --enabled`, or refresh it once with `--force`"
        )


class OrganizationQuarantined(UsageError):
    """The organisation's attempts crashed their workers too often."""

    kind = "organization_quarantined"

    def __init__(self, slug: str, reason: str) -> None:
        super().__init__(
            f"organisation {slug!r} is in quarantine: {reason}. `kiket-worker settings release {slug}` ends it, "
            "and `--force` refreshes once all the same"
        )


class InvalidSlug(UsageError):
    """A slug that cannot be turned into a schema name safely."""

    kind = "organization_slug_invalid"


class SchemaTaken(InvalidSlug):
    """Another organisation's slug gives the same schema."""

    kind = "organization_schema_taken"


def told_to_organization(fault: KiketError, slug: str) -> KiketError:
    """What the organisation itself may read of a fault: nothing of another one, not even that it exists."""
    if isinstance(fault, SchemaTaken):
        return InvalidSlug(f"slug {slug!r} gives no schema that can be the organisation's own: rename the organisation")
    return fault


class UnknownTenant(UsageError):
    """No organisation was provisioned under this slug."""

    kind = "tenant_unknown"


class UnknownVersion(UsageError):
    """The organisation's definitions never had this version."""

    kind = "definitions_version_unknown"


class UnknownRun(UsageError):
    """No run has this id."""

    kind = "run_unknown"


class RunNotCancellable(UsageError):
    """The run has ended already."""

    kind = "run_ended"


class UnknownToken(UsageError):
    """No token has this id."""

    kind = "token_unknown"


class UnknownDeadLetter(UsageError):
    """No dead letter has this id."""

    kind = "dead_letter_unknown"


class QueryArgumentInvalid(UsageError):
    """A dashboard's query was given a value that its parameters do not take, or lacks one that it needs."""

    kind = "query_argument_invalid"


class QueryUnfit(KiketError):
    """A dashboard's query names what its model does not have, or not as such: one of them has changed."""

    kind = "query_unfit"


class PreviewsBusy(KiketError):
    """As many dashboards are being drawn as may be at a time."""

    kind = "previews_busy"
    retryable = True


class ServiceUnreachable(KiketError):
    """A service that the worker stands on does not answer."""

    kind = "service_unreachable"
    retryable = True
    exit_code = 3


class PostgresUnreachable(ServiceUnreachable):
    """Postgres refuses connections, or ended the one in use."""

    kind = "postgres_unreachable"


class RabbitmqUnreachable(ServiceUnreachable):
    """RabbitMQ refuses connections, or ended the one in use."""

    kind = "rabbitmq_unreachable"


class QueueMismatch(KiketError):
    """A queue exists with other arguments than this release declares."""

    kind = "queue_mismatch"


class DeadLettersBusy(KiketError):
    """Another `dead-letters` command has the dead letters in hand."""

    kind = "dead_letters_busy"
    retryable = True


class ArtifactsUnreachable(ServiceUnreachable):
    """The artifact store does not take or give files."""

    kind = "artifacts_unreachable"


class LedgerForbidden(KiketError):
    """The database login may not do what the worker needs."""

    kind = "ledger_forbidden"


class LedgerNotMigrated(KiketError):
    """The ledger's tables are missing or older than this release."""

    kind = "ledger_not_migrated"


class RolesNotSetUp(KiketError):
    """The database lacks the roles and functions of this release."""

    kind = "roles_not_set_up"


class TenantBusy(KiketError):
    """The organisation's schema is being refreshed, so what was asked for has to wait."""

    kind = "tenant_busy"
    retryable = True


class TenantLoginFailed(KiketError):
    """Nobody can log in as the organisation's database role, though it was set up anew."""

    kind = "tenant_login_failed"
    retryable = True


class TenantNotIsolated(KiketError):
    """The organisation's database role is not who it should be, or has more rights than it may have."""

    kind = "tenant_not_isolated"


class OrganizationGone(KiketError):
    """The organisation was removed or renamed after its run was queued."""

    kind = "organization_gone"


class AttemptsExhausted(KiketError):
    """A run's attempts crashed their workers as often as is borne."""

    kind = "attempts_exhausted"


class LeaseLost(KiketError):
    """Another worker has taken the organisation's lease over: this attempt may write nothing any more."""

    kind = "lease_lost"


class RunCancelled(KiketError):
    """Somebody asked for the run to end."""

    kind = "run_cancelled"


class WorkerStopped(KiketError):
    """The worker has to end; its runs are handed back, and other workers take them."""

    kind = "worker_stopped"


class BuildFailed(KiketError):
    """dbt did not build what it was asked to."""

    kind = "build_failed"


class ModelFailed(BuildFailed):
    """At least one model failed; the others are as dbt left them."""

    kind = "model_failed"


class DbtExecutableMissing(BuildFailed):
    """The dbt executable is not there or cannot be run."""

    kind = "dbt_executable_missing"


class SchemaForbidden(BuildFailed):
    """A node of the bundle would be built in another schema than the organisation's own."""

    kind = "schema_forbidden"


class TenantOverran(BuildFailed):
    """A statement of the organisation's, or an idle transaction, took longer than it may; its sessions were ended."""

    kind = "tenant_overran"


class QuotaExceeded(BuildFailed):
    """The organisation's relations take more room than it may have."""

    kind = "quota_exceeded"


class DbtTimedOut(BuildFailed):
    """dbt did not end within the run's time limit."""

    kind = "dbt_timed_out"


class DbtFailed(BuildFailed):
    """dbt ended with an error of its own, before or beside the models."""

    kind = "dbt_failed"


class DatabaseInterrupted(BuildFailed):
    """Postgres ended what dbt did, for a reason that passes: a restart, a deadlock, too many connections."""

    kind = "database_interrupted"
    retryable = True


class DbtNoResults(BuildFailed):
    """dbt ended without results that can be read: nothing is known of what it built."""

    kind = "dbt_no_results"


class DbtKilled(BuildFailed):
    """Something other than this worker killed dbt, or its guard did when the lease's time had passed."""

    kind = "dbt_killed"
    retryable = True


class SelectionEmpty(BuildFailed):
    """The selection names no model."""

    kind = "selection_empty"


class CompilationBusy(KiketError):
    """Another worker records dbt at this moment."""

    kind = "compilation_busy"


class CompilationFailed(KiketError):
    """dbt could not be recorded."""

    kind = "compilation_failed"


class CompiledBundleDamaged(KiketError):
    """What a compilation has stored cannot be read, or is another release's."""

    kind = "compiled_bundle_damaged"


class DefinitionsUntried(KiketError):
    """Definitions could not be tried, for a reason that is not theirs."""

    kind = "definitions_untried"


class OverlayDamaged(KiketError):
    """What was published is not what is stored: its digest differs, or it cannot be read."""

    kind = "overlay_damaged"


class DefinitionsRefused(KiketError):
    """A definition repository has errors, so it was not published."""

    kind = "definitions_refused"


class DefinitionsBusy(KiketError):
    """The organisation's definitions changed each time before what was to be published was checked beside them."""

    kind = "definitions_busy"
    retryable = True


class SharedModelsMissing(BuildFailed):
    """The shared schema stays empty, so models that refer to it cannot be built."""

    kind = "shared_models_missing"


class SessionsNotEnded(KiketError):
    """Sessions of an earlier attempt go on, so its schema cannot be written yet."""

    kind = "sessions_not_ended"
    retryable = True


class ArtifactsRefused(KiketError):
    """The artifact store answered and refused, for a reason that has no kind of its own below."""

    kind = "artifacts_refused"


class ArtifactsBucketMissing(ArtifactsRefused):
    """The bucket does not exist."""

    kind = "artifacts_bucket_missing"


class ArtifactsAccessDenied(ArtifactsRefused):
    """The credentials are wrong, or lack a right."""

    kind = "artifacts_access_denied"


class ArtifactsRegionWrong(ArtifactsRefused):
    """The bucket is in another region than the one that was asked."""

    kind = "artifacts_region_wrong"


class ArtifactsCredentialsExpired(ArtifactsRefused):
    """Temporary credentials have run out; whoever gives them out renews them."""

    kind = "artifacts_credentials_expired"
    retryable = True


class ArtifactsDiskFull(ArtifactsRefused):
    """The store's disk, or its quota, is full."""

    kind = "artifacts_disk_full"
    retryable = True


class ExportFailed(KiketError):
    """A file that was to be exported cannot be written."""

    kind = "export_failed"


class ArtifactChanged(KiketError):
    """A file is not what it was when its checksum was made; made again, it may be."""

    kind = "artifact_changed"
    retryable = True


class ArtifactDamaged(KiketError):
    """What the store has is not what was archived, or is not there."""

    kind = "artifact_damaged"


def place_of(fault: Exception) -> str:
    """What went wrong and where, without the words of an error that may hold anything."""
    frame = traceback.extract_tb(fault.__traceback__)[-1]
    return f"{type(fault).__name__} at {frame.filename}:{frame.lineno}"
