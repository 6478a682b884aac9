"""From slugs to schemas: only names that Postgres keeps whole and nobody has to quote."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiket_worker.errors import InvalidSlug
from kiket_worker.tenants.schema import schema_name


@pytest.mark.parametrize(
    ("slug", "schema"),
    [
        ("acme", "analytics_org_acme"),
        ("blue-harbor", "analytics_org_blue_harbor"),
        ("north_star", "analytics_org_north_star"),
        ("a", "analytics_org_a"),
        ("0-_-9", "analytics_org_0___9"),
    ],
)
def test_a_schema_is_the_prefix_and_the_slug_with_underscores(slug: str, schema: str) -> None:
    assert schema_name(slug) == schema


def test_the_longest_slug_fills_the_name_that_postgres_keeps() -> None:
    assert len(schema_name("a" * 49)) == 63
    with pytest.raises(InvalidSlug, match="has 50 characters"):
        schema_name("a" * 50)


@pytest.mark.parametrize(
    "slug",
    [
        "",
        "-a",
        "a-",
        "_a",
        "a_",
        "Acme",
        "a b",
        "a.b",
        'a"b',
        "a'; drop schema public; --",
        "a\n",
        "\na",
        "a\x00b",
        "é",
        "а",
        "１",
    ],
)
def test_what_is_no_slug_is_refused(slug: str) -> None:
    with pytest.raises(InvalidSlug):
        schema_name(slug)


@given(st.text(max_size=60) | st.text("abz019-_", max_size=60))
def test_a_slug_gives_a_plain_name_or_is_refused(slug: str) -> None:
    try:
        name = schema_name(slug)
    except InvalidSlug:
        return
    assert re.fullmatch(r"analytics_org_[a-z0-9_]{1,49}", name, re.ASCII)
    assert name.isascii()
    assert name == f"analytics_org_{slug.replace('-', '_')}"
