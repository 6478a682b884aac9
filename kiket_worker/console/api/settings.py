"""Settings of an organisation: whether and how often it is refreshed."""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from kiket_worker.console import actions
from kiket_worker.console.access import Caller, ServicesOf, visible_organization
from kiket_worker.console.api.documents import SettingsDocument, settings_document
from kiket_worker.console.api.openapi import problems

router = APIRouter(prefix="/organizations/{slug}/settings", tags=["settings"])


def _whole(value: object) -> object:
    """To JSON, 6.0 is the integer 6."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _without_defaults(schema: dict[str, Any]) -> None:
    """What is left out has no default: a client that filled it in would change what it was not asked to."""
    for one in schema["properties"].values():
        del one["default"]


class SettingsChange(BaseModel):
    """What is to change; what is left out stays as it is."""

    model_config = ConfigDict(
        extra="forbid", strict=True, use_attribute_docstrings=True, json_schema_extra=_without_defaults
    )

    enabled: bool = False
    """Refresh it, or not."""
    refresh_interval_hours: Annotated[int, Field(ge=1, le=8760), BeforeValidator(_whole)] | None = None
    """Hours between refreshes; null goes back to the plan's."""
    docs: bool = False
    """Leave dbt's docs with each run."""


@router.get("", summary="An organisation's settings", responses=problems(HTTPStatus.NOT_FOUND))
def show_settings(slug: str, caller: Caller, services: ServicesOf) -> SettingsDocument:
    """Also of an organisation that never had any: it is not enabled then."""
    return settings_document(visible_organization(services, caller, slug))


@router.patch(
    "", summary="Change settings (JSON Merge Patch)", responses=problems(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)
)
def change_settings(slug: str, caller: Caller, services: ServicesOf, change: SettingsChange) -> SettingsDocument:
    """Only what is given changes, as in RFC 7396."""
    given = change.model_fields_set
    organization = actions.change_settings(
        services,
        caller,
        slug,
        enabled=change.enabled if "enabled" in given else None,
        refresh_interval_hours=change.refresh_interval_hours,
        use_plan_default="refresh_interval_hours" in given and change.refresh_interval_hours is None,
        docs=change.docs if "docs" in given else None,
    )
    return settings_document(organization)
