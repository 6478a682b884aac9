"""The pages for people: routers that `create_app` includes, without a part in the API's document."""

from fastapi import APIRouter

ROUTERS: tuple[APIRouter, ...] = ()
