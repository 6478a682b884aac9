"""Composing a bundle: the core project with the overlays that an organisation has published, in one folder."""

from collections.abc import Mapping
from pathlib import Path

from kiket_worker.dbt.bundle import Bundle
from kiket_worker.dbt.overlay import Overlay, is_yaml, place_of
from kiket_worker.dbt.placeholders import kept_literal


def compose(core: Bundle, overlays: Mapping[str, Overlay], folder: Path) -> Bundle:
    """Lay out the core project and the overlays, by their names, in an empty folder; give the bundle.

    Its digest depends on the contents only, not on the order of overlays, and not on what dbt does not read of them.
    """
    core.laid_out(folder)
    for name, overlay in overlays.items():
        for path, text in overlay.files.items():
            if place := place_of(path, name):
                (folder / place).parent.mkdir(parents=True, exist_ok=True)
                (folder / place).write_text(
                    kept_literal(text) if is_yaml(place) else text, encoding="utf-8", newline=""
                )
    return Bundle(folder)
