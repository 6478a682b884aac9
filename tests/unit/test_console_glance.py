"""What takes long to look at, seen as it was a moment ago."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from kiket_worker.console.glance import Glance
from kiket_worker.errors import KiketError
from tests.support.dbt_scripts import until


class World:
    """Something that is looked at, with a clock; a look takes `takes` seconds of it, and waits while `held`."""

    def __init__(self) -> None:
        self.now = 100.0
        self.takes = 0.0
        self.looks = 0
        self.fails = False
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def look(self) -> int:
        self.looks += 1
        number = self.looks
        assert self.may_go_on.wait(10)
        self.now += self.takes
        if self.fails:
            raise KiketError("away")
        return number

    def glance(self) -> Glance[int]:
        return Glance(self.look, fresh_seconds=10, stale_seconds=60, clock=lambda: self.now)


def test_those_who_come_together_wait_for_one_look() -> None:
    world = World()
    world.may_go_on.clear()
    glance = world.glance()
    with ThreadPoolExecutor(8) as pool:
        seen = [pool.submit(glance) for _ in range(8)]
        until(lambda: world.looks == 1, "a look")
        world.may_go_on.set()
        assert [one.result(10) for one in seen] == [1] * 8
    assert world.looks == 1


def test_what_is_old_is_shown_while_a_thread_looks_again() -> None:
    world = World()
    glance = world.glance()
    assert glance() == 1
    world.now += 9
    assert glance() == 1
    world.now += 2
    world.may_go_on.clear()
    assert [glance() for _ in range(5)] == [1] * 5
    until(lambda: world.looks == 2, "a second look")
    world.may_go_on.set()
    until(lambda: glance() == 2, "what it saw")
    assert world.looks == 2


def test_what_is_too_old_is_not_shown() -> None:
    world = World()
    glance = world.glance()
    assert glance() == 1
    world.now += 61
    assert glance() == 2


def test_a_look_that_fails_leaves_the_last_one_until_it_is_too_old() -> None:
    world = World()
    glance = world.glance()
    assert glance() == 1
    world.fails = True
    world.now += 11
    assert glance() == 1
    until(lambda: world.looks == 2, "a look in vain")
    world.now += 50
    with pytest.raises(KiketError):
        glance()
    world.fails = False
    assert glance() == world.looks


def test_where_it_is_kept_it_looks_though_nobody_comes() -> None:
    world = World()
    with Glance(world.look, fresh_seconds=0.001, stale_seconds=0.01) as glance:
        until(lambda: world.looks > 3, "looks that nobody has asked for")
        world.fails = True
        looks = world.looks
        until(lambda: world.looks > looks + 1, "looks in vain")
        world.fails = False
        world.may_go_on.clear()
        looks = world.looks
        until(lambda: world.looks > looks, "another look")
        world.may_go_on.set()
    looks = world.looks
    assert glance() >= looks
    assert not [one for one in threading.enumerate() if one.name.endswith("(_keep)")]


def test_looking_takes_a_twentieth_of_the_time_at_most() -> None:
    world = World()
    world.takes = 3
    glance = world.glance()
    glance()
    world.now += 55
    assert glance() == 1
    assert world.looks == 1
    world.now += 5
    assert glance() == 1
    until(lambda: world.looks == 2, "a second look")
