"""Every attack of the tables, in a session of the tenant's role and as a dashboard's query by its read-only twin."""

import pytest

from tests.isolation.attacks import Attack, Way
from tests.isolation.every_attack import ATTACKS, of_way
from tests.isolation.siege import Siege, judge


def sent(siege: Siege, attack: Attack, way: Way) -> None:
    answer = siege.attack(attack, way)
    try:
        judge(attack.expected_in(way), answer)
        siege.assert_unharmed()
        assert siege.mend() == attack.drift
    except BaseException:
        siege.rescue()
        raise


def test_attacks_have_names_of_their_own() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS) >= 60


@pytest.mark.parametrize("attack", of_way(Way.SESSION))
def test_in_a_session_of_the_tenants_role(siege: Siege, attack: Attack) -> None:
    sent(siege, attack, Way.SESSION)


@pytest.mark.parametrize("attack", of_way(Way.DASHBOARD))
def test_as_a_query_of_a_dashboard(siege: Siege, attack: Attack) -> None:
    sent(siege, attack, Way.DASHBOARD)


# What would let each attack through, how that is taken back, and the attack.
PROTECTIONS = {
    "the barrier of a gate": (
        "alter view analytics_raw.issues set (security_barrier = false)",
        "alter view analytics_raw.issues set (security_barrier)",
        "leak_by_a_cheap_function",
    ),
    "the rights on a victim's schema": (
        "grant usage on schema analytics_org_blue_harbor to public;"
        "grant select on analytics_org_blue_harbor.fct_throughput to public",
        "revoke usage on schema analytics_org_blue_harbor from public;"
        "revoke select on analytics_org_blue_harbor.fct_throughput from public",
        "other_tenants_table",
    ),
    "the rights on the raw tables": (
        "grant usage on schema public to public; grant select on public.issues to analytics_org_acme",
        "revoke usage on schema public from public; revoke select on public.issues from analytics_org_acme",
        "raw_table",
    ),
    "no membership in the worker's role": (
        "grant kiket_ledger to analytics_org_acme",
        "revoke kiket_ledger from analytics_org_acme",
        "set_role_kiket_ledger",
    ),
    "no right to end sessions": (
        "grant pg_signal_backend to analytics_org_acme",
        "revoke pg_signal_backend from analytics_org_acme",
        "query_cancelled",
    ),
    "no right to make large objects": (
        "grant execute on function lo_create(oid) to public",
        "revoke execute on function lo_create(oid) from public; select lo_unlink(oid) from pg_largeobject_metadata",
        "object_made_by_lo_create",
    ),
}


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_an_attack_is_noticed_where_its_protection_is_missing(siege: Siege, protection: str) -> None:
    breaking, mending, name = PROTECTIONS[protection]
    (attack,) = [attack for attack in ATTACKS if attack.name == name]
    with siege.broken_by(breaking, mending):
        answer = siege.attack(attack, Way.SESSION)
        with pytest.raises(AssertionError):
            judge(attack.expected, answer)
    siege.assert_unharmed()


@pytest.mark.parametrize(
    ("breaking", "mending"),
    [
        (
            "update public.issues set title = title || '!' where organization_id = 2",
            "update public.issues set title = left(title, -1) where organization_id = 2",
        ),
        ("create table public.left_behind ()", "drop table public.left_behind"),
        ("grant kiket_metrics to analytics_org_acme", "revoke kiket_metrics from analytics_org_acme"),
        (
            "alter role analytics_org_blue_harbor set work_mem = '1GB'",
            "alter role analytics_org_blue_harbor reset work_mem",
        ),
        (
            "update kiket_analytics.tenants set connection_limit = connection_limit + 1 where organization_id = 2",
            "update kiket_analytics.tenants set connection_limit = connection_limit - 1 where organization_id = 2",
        ),
    ],
)
def test_harm_is_noticed(siege: Siege, breaking: str, mending: str) -> None:
    with siege.broken_by(breaking, mending), pytest.raises(AssertionError):
        siege.assert_unharmed()
    siege.assert_unharmed()
