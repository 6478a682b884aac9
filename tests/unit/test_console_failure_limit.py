"""Failures to authenticate, by address."""

from kiket_worker.console.limits import FailureLimit


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def limit(clock: Clock, **options: int) -> FailureLimit:
    return FailureLimit(**{"failures": 3, "seconds": 60, "clock": clock} | options)  # type: ignore[arg-type]


def test_the_bucket_empties_over_time() -> None:
    clock = Clock()
    tried = limit(clock)
    assert [tried.failed("192.0.2.1") for _ in range(3)] == [False, False, True]
    assert tried.wait_seconds("192.0.2.1", None) == 20
    assert tried.wait_seconds("192.0.2.2", None) == 0
    clock.now += 19
    assert tried.wait_seconds("192.0.2.1", None) == 1
    clock.now += 1
    assert tried.wait_seconds("192.0.2.1", None) == 0
    assert tried.failed("192.0.2.1")
    assert tried.wait_seconds("192.0.2.1", None) == 20


def test_a_token_is_known_at_its_address_and_for_an_hour() -> None:
    clock = Clock()
    tried = limit(clock)
    tried.succeeded("192.0.2.1", b"good")
    tried.succeeded("192.0.2.2", b"other")
    for address in ("192.0.2.1", "192.0.2.2"):
        for _ in range(300):
            tried.failed(address)
    assert tried.wait_seconds("192.0.2.1", b"good") == 0
    assert tried.wait_seconds("192.0.2.1", b"bad") > 0
    assert tried.wait_seconds("192.0.2.2", b"good") > 0
    tried.forget("192.0.2.1", b"good")
    assert tried.wait_seconds("192.0.2.1", b"good") > 0
    clock.now += 3601
    assert tried.wait_seconds("192.0.2.2", b"other") > 0


def test_who_has_an_ipv6_network_has_one_bucket() -> None:
    tried = limit(Clock())
    for number in range(3):
        tried.failed(f"2001:db8::{number}")
    assert tried.wait_seconds("2001:db8::ffff", None) > 0
    assert tried.wait_seconds("2001:db8:0:1::1", None) == 0
    for _ in range(3):
        tried.failed("::ffff:192.0.2.1")
    assert tried.wait_seconds("192.0.2.1", None) > 0


def test_what_is_remembered_is_bounded() -> None:
    tried = limit(Clock(), remembered=10)
    for number in range(1000):
        tried.failed(f"192.0.{number // 250}.{number % 250}")
        tried.succeeded("192.0.2.1", str(number).encode())
    assert len(tried._buckets) == len(tried._known) == 10
