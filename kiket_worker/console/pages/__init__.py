"""The pages for people. Each router is included by `create_app`; pages are no part of the API's document."""

from fastapi import APIRouter

from kiket_worker.console.pages import session, static

ROUTERS: tuple[APIRouter, ...] = (session.router, static.router)
