"""Published overlays: stored beside the artifacts by their digests, once for all who use them, and never changed."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from kiket_worker.artifacts.store import Store
from kiket_worker.dbt.overlay import Overlay
from kiket_worker.errors import OverlayDamaged


def store_overlay(store: Store, overlay: Overlay) -> None:
    """Store an overlay, unless it is there; one that is damaged is stored anew. Raises what the store raises."""
    key = _key(overlay.digest)
    content = overlay.pack()
    try:
        if store.get(key) == content:
            return
    except FileNotFoundError:
        pass
    with TemporaryDirectory(prefix="kiket-overlay-") as folder:
        packed = Path(folder) / "overlay"
        packed.write_bytes(content)
        # It has to outlive a power cut that comes after the ledger names it.
        store.put(
            key,
            packed,
            sha256=hashlib.sha256(content).hexdigest(),
            content_type="application/gzip",
            completes_set=True,
        )


def fetch_overlay(store: Store, digest: str) -> Overlay:
    """The overlay of this digest. Raises `OverlayDamaged` where it is gone or another, and what the store raises."""
    key = _key(digest)
    try:
        packed = store.get(key)
    except FileNotFoundError:
        raise OverlayDamaged(f"the overlay {digest} was published, and is not at {store.location(key)}") from None
    return Overlay.unpack(packed, digest)


def fetch_overlays(store: Store, digests: Mapping[str, str]) -> dict[str, Overlay]:
    """Overlays by the names that their digests have. Raises as `fetch_overlay` does."""
    return {name: fetch_overlay(store, digest) for name, digest in digests.items()}


def _key(digest: str) -> str:
    # No organisation's: a slug does not begin with an underscore.
    return f"_definitions/{digest}/overlay.json.gz"
