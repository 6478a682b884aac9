"""Installations with roles for the tests of tenants."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.installations import Installation


@pytest.fixture
def installation(sample_database: Any) -> Iterator[Installation]:
    """The sample platform with roles and gates; no organisation is provisioned."""
    with Installation.of(sample_database) as made:
        yield made
