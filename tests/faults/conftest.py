"""Sites for fault tests."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.faults.proxy import Proxy
from tests.faults.site import Site
from tests.support.tenants import SECRETS


@pytest.fixture
def site(tmp_path: Path, sample_database: Any, rabbitmq_url: str) -> Iterator[Site]:
    """The sample platform with nothing due: on this process's Postgres, in a database of its own."""
    made = Site.prepare(tmp_path, sample_database.url, rabbitmq_url, sample_database.with_roles())
    yield made
    made.end()


@pytest.fixture
def postgres_proxy(site: Site) -> Iterator[Proxy]:
    """In front of Postgres' socket; who is to go through it is told so by `DATABASE_URL`."""
    folder = parse_qs(urlsplit(site.database_url).query)["host"][0]
    with Proxy(f"{folder}/.s.PGSQL.5432") as proxy:
        yield proxy


@pytest.fixture
def proxied_database(site: Site, postgres_proxy: Proxy) -> dict[str, str]:
    """The variable that leads a process through `postgres_proxy`."""
    name = urlsplit(site.database_url).path
    return {
        "DATABASE_URL": f"postgresql://kiket_ledger:{SECRETS.ledger_password}@127.0.0.1:{postgres_proxy.port}{name}"
    }


@pytest.fixture
def rabbitmq_proxy(rabbitmq_url: str) -> Iterator[Proxy]:
    with Proxy(("127.0.0.1", urlsplit(rabbitmq_url).port or 0)) as proxy:
        yield proxy


@pytest.fixture
def proxied_rabbitmq(rabbitmq_url: str, rabbitmq_proxy: Proxy) -> dict[str, str]:
    """The variable that leads a process through `rabbitmq_proxy`."""
    return {"RABBITMQ_URL": f"amqp://guest:guest@127.0.0.1:{rabbitmq_proxy.port}/%2F"}


@pytest.fixture
def s3_proxy(site: Site, s3_bucket: str) -> Iterator[Proxy]:
    """In front of the session's S3 server, where the site then keeps its artifacts."""
    endpoint = urlsplit(os.environ["AWS_ENDPOINT_URL_S3"])
    with Proxy((endpoint.hostname or "", endpoint.port or 0)) as proxy:
        site.variables |= {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        site.variables |= {
            "ARTIFACTS_URL": f"s3://{s3_bucket}/{site.folder.name}",
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{proxy.port}",
        }
        yield proxy
