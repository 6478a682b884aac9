"""How often somebody may fail to say who they are, by address."""

import ipaddress
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

_FAILURES = 20
_SECONDS = 60.0
# As many addresses, and as many tokens, as are remembered; beyond that the oldest are forgotten.
_REMEMBERED = 10_000
_KNOWN_SECONDS = 3600.0


class FailureLimit:
    """A bucket of failures for each address, which empties over time.

    Addresses are shared, by proxies and offices: a token that was good from an address within the last hour is asked
    about however often others fail there, so that nobody is shut out by a neighbour. All others are not even looked up.
    """

    def __init__(
        self,
        *,
        failures: int = _FAILURES,
        seconds: float = _SECONDS,
        remembered: int = _REMEMBERED,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """So many failures at once, and as many again in each `seconds`."""
        self._most = failures
        self._rate = failures / seconds
        self._remembered = remembered
        self._clock = clock
        self._lock = threading.Lock()
        # How full the bucket is, and when that was so.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._known: OrderedDict[tuple[str, bytes], float] = OrderedDict()

    def wait_seconds(self, address: str, digest: bytes | None) -> int:
        """How long this address has to wait before it may try this token; 0 if it need not."""
        address = _network(address)
        with self._lock:
            known_at = self._known.get((address, digest)) if digest else None
            if known_at is not None and self._clock() - known_at < _KNOWN_SECONDS:
                return 0
            level = self._level(address)
        return math.ceil((level - self._most + 1) / self._rate) if level > self._most - 1 else 0

    def failed(self, address: str) -> bool:
        """Count a failure; give whether it is the one by which the bucket is full."""
        address = _network(address)
        with self._lock:
            before = self._level(address)
            self._buckets[address] = (before + 1, self._clock())
            self._buckets.move_to_end(address)
            if len(self._buckets) > self._remembered:
                self._buckets.popitem(last=False)
        return before <= self._most - 1 < before + 1

    def succeeded(self, address: str, digest: bytes) -> None:
        """Remember that a token was good."""
        key = (_network(address), digest)
        with self._lock:
            self._known[key] = self._clock()
            self._known.move_to_end(key)
            if len(self._known) > self._remembered:
                self._known.popitem(last=False)

    def forget(self, address: str, digest: bytes) -> None:
        """The token is good no longer."""
        with self._lock:
            self._known.pop((_network(address), digest), None)

    def _level(self, address: str) -> float:
        level, at = self._buckets.get(address, (0.0, 0.0))
        return max(0.0, level - (self._clock() - at) * self._rate)


def _network(address: str) -> str:
    """Who has one IPv6 address has the 2^64 beside it as well."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
