"""The bundles that a worker runs: its release's project with overlays, fetched, verified and laid out once."""

import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import ExitStack

from kiket_worker.artifacts.store import Store
from kiket_worker.dbt.bundle import Bundle
from kiket_worker.dbt.composition import compose
from kiket_worker.dbt.published import fetch_overlays
from kiket_worker.dbt.workdir import workdir

_PREFIX = "kiket-bundle-"

_Key = frozenset[tuple[str, str]]


class PublishedBundles:
    """Bundles by the overlays that they are made of: the same overlays give the same object.

    So many are kept, those that were used last. A bundle's folder goes with the last that refers to the bundle, so that
    none is removed under a run, or under a compilation that goes on after its run.
    """

    def __init__(self, core: Bundle, store: Store, *, kept: int = 32) -> None:
        self.core = core
        self._store = store
        self._most = kept
        self._lock = threading.Lock()
        self._kept: OrderedDict[_Key, Bundle] = OrderedDict()
        # Also those that are in use beyond what is kept.
        self._living: weakref.WeakValueDictionary[_Key, Bundle] = weakref.WeakValueDictionary()
        self._being_made: weakref.WeakValueDictionary[_Key, _Turn] = weakref.WeakValueDictionary()

    def of(self, overlays: Mapping[str, str]) -> Bundle:
        """The bundle with these overlays, by name and digest. Raises `OverlayDamaged`, and what the store raises."""
        if not overlays:
            return self.core
        key = frozenset(overlays.items())
        with self._lock:
            if found := self._found(key):
                return found
            turn = self._being_made.get(key) or self._being_made.setdefault(key, _Turn())
        # Two that want the same wait for each other, and nobody else for them.
        with turn.lock:
            with self._lock:
                if found := self._found(key):
                    return found
            made = self._made(overlays)
            with self._lock:
                self._keep(key, made)
            return made

    def _found(self, key: _Key) -> Bundle | None:
        found = self._living.get(key)
        if found is not None:
            self._keep(key, found)
        return found

    def _keep(self, key: _Key, bundle: Bundle) -> None:
        self._living[key] = self._kept[key] = bundle
        self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def _made(self, overlays: Mapping[str, str]) -> Bundle:
        fetched = fetch_overlays(self._store, overlays)
        with ExitStack() as stack:
            bundle = compose(self.core, fetched, stack.enter_context(workdir(_PREFIX)))
            weakref.finalize(bundle, stack.pop_all().close)
        return bundle


class _Turn:
    """Whose turn it is to make one bundle; there for as long as somebody makes it or waits for it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
