"""Installations with roles for the tests of tenants."""

from collections.abc import Iterator
from typing import Any

import pytest

from kiket_worker.dbt.child import run_child
from kiket_worker.refresh import compilation
from tests.support import warm_dbt
from tests.support.installations import Installation


@pytest.fixture(scope="session", autouse=True)
def _warm_recorders() -> Iterator[None]:
    """Where dbt is recorded, its process is forked from one that has imported dbt; not so in `tests/acceptance`."""

    def run_warm(command: list[str], **given: Any) -> int:
        assert command[1:3] == ["-I", "-m"]
        return run_child([str(warm_dbt.executable()), *command[2:]], **given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compilation, "run_child", run_warm)
        yield


@pytest.fixture
def installation(sample_database: Any) -> Iterator[Installation]:
    """The sample platform with roles and gates; no organisation is provisioned."""
    with Installation.of(sample_database) as made:
        yield made
