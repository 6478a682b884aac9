"""Texts with holes: what names a probe is found wherever it is, and what fills a hole is never searched for."""

import json

import pytest

from kiket_worker.dbt.replay.holes import as_json, deep_filled, deep_with_holes, filled, hole, with_holes
from kiket_worker.dbt.replay.probe import pair, values_of

PROBE = {"schema": "analytics_org_probe_q1", "slug": "probe-q1", "id": "123456789"}
ODD = values_of(1, "org", "analytics_org_org")


def test_names_become_holes_and_are_filled_with_another_tenants() -> None:
    text = with_holes('select 123456789, \'probe-q1\', \'org\', 1 from "x"."analytics_org_probe_q1"."org"', PROBE)
    assert filled(text, ODD) == 'select 1, \'org\', \'org\', 1 from "x"."analytics_org_org"."org"'


def test_names_that_dbt_makes_of_the_time_are_holes_too() -> None:
    text = with_holes('create index if not exists "0123456789abcdef0123456789abcdef" on "a__dbt_tmp101112131415"', {})
    assert text == f'create index if not exists "{hole("index")}" on "a__dbt_tmp{hole("stamp")}"'


def test_numbers_are_numbers_again() -> None:
    document = deep_with_holes({"id": 123456789, "n": 5, "t": ["probe-q1", None, True, 1.5]}, PROBE)
    assert deep_filled(document, ODD) == {"id": 1, "n": 5, "t": ["org", None, True, 1.5]}
    assert json.loads(filled(as_json(document), ODD)) == {"id": 1, "n": 5, "t": ["org", None, True, 1.5]}


def test_a_hole_without_a_value_is_an_error() -> None:
    with pytest.raises(KeyError):
        filled(hole("nobody"), ODD)


def test_two_probes_differ_in_everything_that_a_template_could_look_at() -> None:
    first, second = pair()
    assert first.organization_id % 2 == 0
    assert second.organization_id % 2 == 1
    assert len(str(first.organization_id)) < len(str(second.organization_id))
    assert second.organization_id < 2**31
    assert len(first.slug) < len(second.slug) <= 49
    assert first.clock_shift_seconds == 0
    assert second.clock_shift_seconds > 366 * 86_400
    assert second.clock_shift_seconds % 86_400 > 10 * 3600
    assert pair()[0].slug != first.slug
