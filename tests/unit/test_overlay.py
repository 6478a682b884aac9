"""Overlays: named by their content, stored as they are, and composed into one project in any order."""

import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiket_worker.dbt.bundle import Bundle
from kiket_worker.dbt.composition import compose
from kiket_worker.dbt.overlay import Kind, Overlay, is_name, kind_of, may_hold_definitions, place_of
from kiket_worker.errors import OverlayDamaged

NAMES = st.text("abcdefgh_", min_size=1, max_size=8)
ROOTS = st.sampled_from(
    [
        "analytics/dbt/models/{}.sql",
        ".kiket/analytics/dbt/models/{}.sql",
        ".kiket/modules/crm/dbt/models/{}.sql",
        "analytics/dbt/macros/{}.sql",
        "analytics/dbt/seeds/{}.csv",
        ".kiket/analytics/dashboards/{}.yaml",
    ]
)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)
FILES = st.dictionaries(st.builds(str.format, ROOTS, NAMES), TEXTS, max_size=6)
OVERLAYS = st.dictionaries(NAMES.filter(is_name), FILES.map(Overlay), max_size=3)


def composed(overlays: dict[str, Overlay]) -> Bundle:
    """The bundle of a small core project, in a folder that has gone by then."""
    with tempfile.TemporaryDirectory() as core, tempfile.TemporaryDirectory() as folder:
        Path(core, "dbt_project.yml").write_text("name: small")
        bundle = compose(Bundle(Path(core)), overlays, Path(folder))
        bundle.digest  # noqa: B018  # kept with the bundle
    return bundle


@given(OVERLAYS, st.randoms(use_true_random=False))
def test_the_digest_of_a_bundle_does_not_depend_on_order(overlays: dict[str, Overlay], chance: random.Random) -> None:
    shuffled = {
        name: Overlay(dict(chance.sample(list(overlays[name].files.items()), len(overlays[name].files))))
        for name in chance.sample(list(overlays), len(overlays))
    }

    assert composed(shuffled).digest == composed(overlays).digest


@given(OVERLAYS, st.data())
def test_the_digest_of_a_bundle_changes_with_what_dbt_reads_and_only_with_that(
    overlays: dict[str, Overlay], data: st.DataObject
) -> None:
    files = [(name, path) for name, overlay in overlays.items() for path in overlay.files]
    if not files:
        return
    name, path = data.draw(st.sampled_from(files))
    overlay = overlays[name]
    other = overlays | {name: Overlay(dict(overlay.files) | {path: overlay.files[path] + "x"})}

    assert (composed(other).digest != composed(overlays).digest) == (kind_of(path) is not Kind.DASHBOARD)
    assert other[name].digest != overlay.digest


@given(FILES)
def test_what_is_stored_is_what_was_published(files: dict[str, str]) -> None:
    overlay = Overlay(files)

    assert Overlay.unpack(overlay.pack(), overlay.digest) == overlay
    assert Overlay(dict(reversed(files.items()))).pack() == overlay.pack()


@pytest.mark.parametrize("damaged", [b"", b"no gzip", Overlay({"a": "b"}).pack()[:-3], Overlay({"a": "c"}).pack()])
def test_what_was_changed_in_the_store_is_refused(damaged: bytes) -> None:
    with pytest.raises(OverlayDamaged):
        Overlay.unpack(damaged, Overlay({"a": "b"}).digest)


def test_names_of_files_are_told_from_their_contents() -> None:
    assert Overlay({"a": "bc"}).digest != Overlay({"ab": "c"}).digest


@pytest.mark.parametrize(
    ("path", "kind", "place"),
    [
        ("analytics/dbt/models/a/b.sql", Kind.MODEL, "models/definitions/main/analytics/a/b.sql"),
        ("analytics/dbt/models/a.yaml", Kind.MODEL, "models/definitions/main/analytics/a.yaml"),
        ("analytics/dbt/models/a.py", None, None),
        ("analytics/dbt/models/a.md", None, None),
        ("analytics/dbt/macros/a.sql", Kind.MACRO, "macros/definitions/main/a.sql"),
        ("analytics/dbt/seeds/a.csv", Kind.SEED, "seeds/definitions/main/a.csv"),
        ("analytics/dbt/tests/a.sql", Kind.TEST, "tests/definitions/main/a.sql"),
        ("analytics/dbt/tests/generic/a.sql", Kind.TEST, "tests/generic/definitions/main/a.sql"),
        ("analytics/dbt/exposures/a.yml", Kind.EXPOSURE, "models/definitions/main/exposures/a.yml"),
        (".kiket/analytics/dbt/models/a.sql", Kind.MODEL, "models/definitions/main/kiket/a.sql"),
        (".kiket/modules/crm/dbt/models/a.sql", Kind.MODEL, "models/definitions/main/modules/crm/a.sql"),
        (".kiket/modules/crm/deep/dbt/models/a.sql", None, None),
        (".kiket/analytics/dashboards/a.yaml", Kind.DASHBOARD, None),
        (".kiket/analytics/dashboards/deep/a.yaml", None, None),
        (".kiket/dashboards/a.yml", Kind.DASHBOARD, None),
        (".kiket/analytics/queries/a.yaml", Kind.QUERY, None),
        (".kiket/queries/a.yaml", Kind.QUERY, None),
        ("README.md", None, None),
        ("analytics/dbt/dbt_project.yml", None, None),
    ],
)
def test_each_path_has_its_place(path: str, kind: Kind | None, place: str | None) -> None:
    assert (kind_of(path), place_of(path, "main")) == (kind, place)


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("", True),
        ("analytics", True),
        ("analytics/dbt/models/deep", True),
        (".kiket/modules/crm", True),
        (".kiket/modules/crm/src", False),
        ("node_modules", False),
        ("analytics/other", False),
    ],
)
def test_only_folders_that_lead_to_definitions_are_entered(folder: str, expected: bool) -> None:
    assert may_hold_definitions(folder) is expected
