"""Bundles of published definitions, as workers find them: verified, shared, bounded, and never gone while in use."""

import gc
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from kiket_worker.artifacts.directory import DirectoryStore
from kiket_worker.dbt.bundle import Bundle, core_bundle
from kiket_worker.dbt.connection import DbtConnection
from kiket_worker.dbt.engine import Cancellation, Options, Tenant
from kiket_worker.dbt.overlay import Overlay
from kiket_worker.dbt.published import store_overlay
from kiket_worker.errors import ArtifactsUnreachable, OverlayDamaged
from kiket_worker.ledger.runs import Status
from kiket_worker.refresh.bundles import PublishedBundles
from kiket_worker.refresh.compilation import CompiledBundles
from kiket_worker.refresh.pipeline import refresh
from tests.support.dbt_scripts import until
from tests.support.publications import model, publication, publish
from tests.support.refreshes import Refreshes, in_background

GOOD = """
project = Path(arguments[1 + arguments.index('--project-dir')])
tell('models', chr(10).join(path.stem for path in project.rglob('*.sql')))
build('a')
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go, and nobody else's."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


@pytest.fixture
def core(tmp_path: Path) -> Bundle:
    (tmp_path / "core/models").mkdir(parents=True)
    (tmp_path / "core/models/own.sql").write_text("select 1")
    return Bundle(tmp_path / "core")


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "artifacts")


def stored(store: DirectoryStore, *names: str) -> dict[str, str]:
    """Overlays with a model each, as an organisation has them."""
    overlays = {name: Overlay(model(name)) for name in names}
    for overlay in overlays.values():
        store_overlay(store, overlay)
    return {name: overlay.digest for name, overlay in overlays.items()}


def folders(temporary: Path) -> set[str]:
    gc.collect()
    return {path.name for path in temporary.iterdir()}


def test_without_overlays_it_is_the_release_s_project_itself(core: Bundle, store: Any, temporary: Path) -> None:
    assert PublishedBundles(core, store).of({}) is core
    assert folders(temporary) == set()


def test_the_same_overlays_give_the_same_bundle_whoever_asks(core: Bundle, store: Any, temporary: Path) -> None:
    overlays = stored(store, "one", "two")
    bundles = PublishedBundles(core, store)
    first = bundles.of(overlays)
    assert bundles.of(dict(reversed(overlays.items()))) is first
    assert (first.project_dir / "models/definitions/one/analytics/one.sql").is_file()
    assert (first.project_dir / "models/own.sql").is_file()
    # Another worker's has the same digest, elsewhere; another set has another one.
    other = PublishedBundles(core, store).of(overlays)
    assert other.digest == first.digest
    assert other.project_dir != first.project_dir
    assert bundles.of(stored(store, "one")).digest != first.digest != core.digest


def test_many_who_want_the_same_fetch_it_once(core: Bundle, store: Any, temporary: Path) -> None:
    overlays = stored(store, "one")
    fetched: list[str] = []
    ready = threading.Event()

    class Slow(DirectoryStore):
        def get(self, key: str) -> bytes:
            fetched.append(key)
            assert ready.wait(20)
            return super().get(key)

    bundles = PublishedBundles(core, Slow(store._root))
    going = [in_background(lambda: bundles.of(overlays)) for _ in range(5)]
    until(lambda: fetched, "the first to fetch")
    ready.set()
    assert len({id(one.wait()) for one in going}) == 1
    assert len(fetched) == 1


def test_so_many_are_kept_those_that_were_used_last(core: Bundle, store: Any, temporary: Path) -> None:
    sets = {name: stored(store, name) for name in ("one", "two", "three")}
    bundles = PublishedBundles(core, store, kept=2)
    places = {name: bundles.of(sets[name]).project_dir for name in ("one", "two")}
    bundles.of(sets["one"])
    bundles.of(sets["three"])
    assert (places["one"].exists(), places["two"].exists()) == (True, False)
    assert len(folders(temporary)) == 2


def test_a_bundle_in_use_stays_and_is_the_one_that_is_found_again(core: Bundle, store: Any, temporary: Path) -> None:
    sets = {name: stored(store, name) for name in ("one", "two", "three")}
    bundles = PublishedBundles(core, store, kept=1)
    used = bundles.of(sets["one"])
    bundles.of(sets["two"])
    bundles.of(sets["three"])
    assert used.laid_out(temporary / "copy").digest == used.digest
    assert bundles.of(sets["one"]) is used
    place = used.project_dir
    del used
    bundles.of(sets["two"])
    gc.collect()
    assert not place.exists()


@pytest.mark.parametrize("content", [b"", b"no gzip", Overlay(model("another")).pack(), None])
def test_what_is_not_what_its_digest_names_is_refused(
    core: Bundle, store: DirectoryStore, temporary: Path, content: bytes | None
) -> None:
    overlays = stored(store, "one", "two")
    path = store._root / f"_definitions/{overlays['two']}/overlay.json.gz"
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    bundles = PublishedBundles(core, store)
    with pytest.raises(OverlayDamaged, match=overlays["two"]):
        bundles.of(overlays)
    assert folders(temporary) == set()
    stored(store, "two")
    assert bundles.of(overlays).project_dir.is_dir()


_KILLED = """
import os, sys
from pathlib import Path
from kiket_worker.artifacts.directory import DirectoryStore
from kiket_worker.dbt.bundle import Bundle
from kiket_worker.refresh import bundles

core, store, digest = sys.argv[1:]
if "half" in os.environ:
    def compose(*_):
        print("half", flush=True)
        sys.stdin.read()
    bundles.compose = compose
made = bundles.PublishedBundles(Bundle(Path(core)), DirectoryStore(Path(store))).of({"one": digest})
print(made.digest, flush=True)
if "ends" not in os.environ:
    sys.stdin.read()
"""


@pytest.mark.parametrize("moment", ["half", "whole", "ends"])
def test_what_a_killed_worker_has_left_is_never_used_and_goes_with_the_next(
    core: Bundle, store: DirectoryStore, temporary: Path, moment: str
) -> None:
    overlays = stored(store, "one")
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_KILLED), core.project_dir, store._root, overlays["one"]],
        env=os.environ | {moment: "yes"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    if moment == "ends":
        assert process.wait(20) == 0
        assert folders(temporary) == set()
        return
    assert len(folders(temporary)) == 1
    bundle = PublishedBundles(core, store).of(overlays)
    assert len(folders(temporary)) == 2, "the other lives"
    process.send_signal(signal.SIGKILL)
    process.wait()
    del bundle
    bundle = PublishedBundles(core, store).of(overlays)
    assert folders(temporary) == {bundle.project_dir.name}


# In a refresh.


def test_a_refresh_builds_the_current_version_and_says_which(refreshes: Refreshes) -> None:
    publish(refreshes, publication(model("mine")))
    publish(refreshes, publication(model("ours"), name="template"))
    services = refreshes.services(GOOD)
    (run_id,) = refreshes.rows("select run_id from kiket_analytics.runs where %s", True)[0]
    assert refresh(run_id, services, Cancellation()) is Status.SUCCEEDED
    built = (refreshes.folder / "models").read_text().splitlines()
    assert {"mine", "ours", "fct_throughput"} <= set(built)
    (event,) = [event for event in refreshes.events() if event["event"] == "run.built"]
    assert event["definitions_version"] == 2
    index = refreshes.left(run_id)
    assert '"definitions_version": 2' in index
    digest = refreshes.rows("select bundle_digest from kiket_analytics.definition_versions where version = %s", 2)
    assert f'"bundle_digest": "{digest[0][0]}"' in index
    assert f'"stringValue":"{digest[0][0]}"' in index.replace('": "', '":"')
    # Who has published nothing builds what the release has.
    assert refresh(refreshes.request("blue-harbor"), services, Cancellation()) is Status.SUCCEEDED
    assert "mine" not in (refreshes.folder / "models").read_text().splitlines()
    assert "definitions_version" not in [e for e in refreshes.events() if e["event"] == "run.built"][-1]


def test_a_version_that_comes_while_a_run_goes_on_is_the_next_runs(refreshes: Refreshes) -> None:
    publish(refreshes, publication(model("mine")))
    (first,) = refreshes.rows("select run_id from kiket_analytics.runs where %s", True)[0]
    going = refreshes.start(first, refreshes.services("tell('started')\nwait_for('go')\n" + GOOD))
    refreshes.until_told("started")
    (done,) = publish(refreshes, publication(model("newer")))
    assert done.run_id not in {None, first}
    refreshes.tell("go")
    assert going.wait() is Status.SUCCEEDED
    assert "newer" not in (refreshes.folder / "models").read_text().splitlines()
    assert done.run_id is not None
    assert refresh(done.run_id, refreshes.services(GOOD), Cancellation()) is Status.SUCCEEDED
    assert "newer" in (refreshes.folder / "models").read_text().splitlines()


def test_a_damaged_overlay_fails_the_run_and_nothing_is_built(refreshes: Refreshes) -> None:
    publish(refreshes, publication(model("mine")))
    digest = Overlay(model("mine")).digest
    (refreshes.folder / f"artifacts/_definitions/{digest}/overlay.json.gz").write_bytes(Overlay(model("x")).pack())
    (run_id,) = refreshes.rows("select run_id from kiket_analytics.runs where %s", True)[0]
    assert refresh(run_id, refreshes.services("tell('reached')\n" + GOOD), Cancellation()) is Status.FAILED
    run = refreshes.run(run_id)
    assert (run.error_kind, run.attempt) == ("overlay_damaged", 1)
    assert digest in str(run.error_message)
    assert not refreshes.has("reached")
    assert refreshes.faults(run_id) == []


def test_while_the_store_is_away_the_run_waits_and_is_tried_again(
    refreshes: Refreshes, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(refreshes, publication(model("mine")))
    (run_id,) = refreshes.rows("select run_id from kiket_analytics.runs where %s", True)[0]
    services = refreshes.services(GOOD)

    def away(*_: object) -> bytes:
        raise ArtifactsUnreachable("no route")

    with monkeypatch.context() as patch:
        patch.setattr(DirectoryStore, "get", away)
        assert refresh(run_id, services, Cancellation()) is Status.RUNNING
    refreshes.execute("update kiket_analytics.runs set not_before = null")
    assert refresh(run_id, services, Cancellation()) is Status.SUCCEEDED


def test_organisations_with_the_same_overlays_share_what_is_compiled(refreshes: Refreshes) -> None:
    publish(refreshes, publication(model("t"), name="template"), "acme", "blue-harbor")
    publish(refreshes, publication({"analytics/dbt/seeds/s.csv": "a\n1\n"}), "blue-harbor")
    services = refreshes.services(GOOD)
    connection = DbtConnection("localhost", 5432, "kiket", "kiket", "")
    compiled = CompiledBundles(
        refreshes.ledger, refreshes.store, services.isolation, connection, worker="here", command="run"
    )

    def key(organization_id: int, bundle: Bundle) -> str:
        tenant = Tenant(organization_id, f"o-{organization_id}", f"analytics_org_o_{organization_id}", "shared")
        return compiled.key(bundle, tenant, Options(Path(), ""))

    sets = dict(
        refreshes.rows(
            "select distinct on (organization_id) organization_id, overlays from kiket_analytics.definition_versions"
            " where %s order by organization_id, version desc",
            True,
        )
    )
    acme, other = (services.bundles.of(overlays) for overlays in sets.values())
    same = services.bundles.of({"template": Overlay(model("t")).digest})
    assert same is acme
    assert key(1, acme) == key(2, same) != key(1, other)
    assert (core_bundle().has_seeds, acme.has_seeds, other.has_seeds) == (False, False, True)
