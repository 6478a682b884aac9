"""The source tables that YAML declares."""

import pytest

from kiket_worker.dbt.sources import SourceTable, declared_sources


def test_tables_are_read_with_where_they_are() -> None:
    text = """sources:
  - name: raw
    schema: "{{ var('raw_schema') }}"
    tables:
      - name: issues
      - {name: people, identifier: users}
  - name: bare
    tables: [{name: a}]
"""
    assert list(declared_sources(text)) == [
        SourceTable("raw", "issues", "issues", "{{ var('raw_schema') }}"),
        SourceTable("raw", "people", "users", "{{ var('raw_schema') }}"),
        SourceTable("bare", "a", "a", ""),
    ]


@pytest.mark.parametrize(
    "text",
    [
        *("", "a: [", "[]", "sources: 1", "sources: {a: b}", "sources: [1, {name: a}, {name: a, tables: 5}]"),
        *("sources: [{name: a, tables: {b: c}}]", "sources: [{name: a, tables: [x, {name: ''}, {y: z}]}]"),
        *("a: 2026-13-45", "a: !!bool x", "a: !!int ''", "a: !!timestamp x", "? [a]\n: b"),
    ],
)
def test_what_has_another_shape_has_none(text: str) -> None:
    assert list(declared_sources(text)) == []
