"""The pages for people. Each router is included by `create_app`; pages are no part of the API's document."""

from fastapi import APIRouter

from kiket_worker.console.pages import organization, organizations, overview, runs, session, settings, static

ROUTERS: tuple[APIRouter, ...] = (
    session.router,
    static.router,
    overview.router,
    organizations.router,
    organization.router,
    settings.router,
    runs.router,
)
