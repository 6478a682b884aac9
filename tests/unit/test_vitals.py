"""Signs of life: which part of a process has died, and a loop that has stopped."""

from kiket_worker.monitoring.vitals import Pulse, Vitals


def test_the_parts_that_have_died_are_named() -> None:
    vitals = Vitals()
    assert vitals.dead() == []
    living = {"tick loop": True, "consumers": True}
    vitals.watch("tick loop", lambda: living["tick loop"])
    vitals.watch("consumers", lambda: living["consumers"])
    assert vitals.dead() == []
    living["consumers"] = False
    assert vitals.dead() == ["consumers"]


def test_a_pulse_stops_when_it_did_not_beat_for_its_rest_and_five_minutes() -> None:
    now = [1000.0]
    pulse = Pulse(rest_seconds=30, clock=lambda: now[0])
    now[0] += 330
    assert pulse.goes_on()
    now[0] += 1
    assert not pulse.goes_on()
    pulse.beat()
    assert pulse.goes_on()
