"""The table of attacks: all of them, and those of a way."""

import pytest

from tests.isolation import attacks_on_rights, attacks_on_rows, attacks_on_the_server
from tests.isolation.attacks import Way

ATTACKS = (
    *attacks_on_rows.READING,
    *attacks_on_rows.GATES,
    *attacks_on_rows.LEAKS,
    *attacks_on_rows.WRITING,
    *attacks_on_rows.VISIBLE,
    *attacks_on_rights.IDENTITY,
    *attacks_on_rights.ATTRIBUTES,
    *attacks_on_rights.SETTINGS,
    *attacks_on_rights.OWNERSHIP,
    *attacks_on_rights.FUNCTIONS,
    *attacks_on_rights.SHADOWS,
    *attacks_on_the_server.FILES,
    *attacks_on_the_server.EXTENSIONS,
    *attacks_on_the_server.OTHERS,
)


def of_way(way: Way) -> list[object]:
    return [pytest.param(attack, id=attack.name) for attack in ATTACKS if way in attack.ways]
