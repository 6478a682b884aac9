"""The pages for people. Each router is included by `create_app`; pages are no part of the API's document."""

from fastapi import APIRouter

from kiket_worker.console.pages import (
    artifacts,
    dashboards,
    organization,
    organizations,
    overview,
    run,
    runs,
    session,
    settings,
    static,
    versions,
)

ROUTERS: tuple[APIRouter, ...] = (
    session.router,
    static.router,
    overview.router,
    organizations.router,
    organization.router,
    settings.router,
    runs.router,
    run.router,
    artifacts.router,
    dashboards.router,
    versions.router,
)
