"""Dashboards of what organisations have published: fetched from the store, verified, read once and kept for a while."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from kiket_worker.artifacts.store import Store
from kiket_worker.dbt.overlay import Overlay
from kiket_worker.dbt.published import fetch_overlay
from kiket_worker.definitions.dashboards.presentation import ShownDashboard, dashboards_of

_KEPT_CHARACTERS = 32 * 1024 * 1024


@dataclass(frozen=True)
class _Kept:
    overlay: Overlay
    dashboards: tuple[ShownDashboard, ...]
    characters: int


class PublishedOverlays:
    """Overlays by their digests, those that were used last: so many characters of them are kept, and the last one.

    A digest names its content, so that what is kept never grows old.
    """

    def __init__(self, store: Store, *, kept_characters: int = _KEPT_CHARACTERS) -> None:
        self._store = store
        self._most = kept_characters
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()

    def overlays(self, digests: Mapping[str, str]) -> dict[str, Overlay]:
        """Overlays by the names that their digests have. Raises `OverlayDamaged`, and what the store raises."""
        return {name: self._of(name, digest).overlay for name, digest in sorted(digests.items())}

    def dashboards(self, digests: Mapping[str, str]) -> list[ShownDashboard]:
        """The dashboards of all of them. Raises `OverlayDamaged`, and what the store raises."""
        found = [self._of(name, digest).dashboards for name, digest in sorted(digests.items())]
        return [dashboard for dashboards in found for dashboard in dashboards]

    def _of(self, name: str, digest: str) -> _Kept:
        key = (name, digest)
        with self._lock:
            if found := self._kept.get(key):
                self._kept.move_to_end(key)
                return found
        overlay = fetch_overlay(self._store, digest)
        characters = sum(map(len, overlay.files.values()))
        made = _Kept(overlay, dashboards_of(name, overlay), characters)
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > 1 and sum(one.characters for one in self._kept.values()) > self._most:
                self._kept.popitem(last=False)
        return made
