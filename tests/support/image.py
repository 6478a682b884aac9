"""What the Dockerfile builds, made without an engine for containers.

The context is filtered and copied as it says, the wheel is built from that by the project's own build backend, and
installed without any extra into an environment of its own. The packages that it needs are those that pip would
install: the closure of its requirements at the versions of `constraints.txt`, copied from the environment of the tests,
where the same wheels were installed by the same constraints. Nothing else is there, so that whatever asks for more
fails.
"""

import os
import re
import shutil
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support import dockerfile
from tests.support.dockerfile import ROOT

NOBODY = 64321  # No user has this id: clusters hand out such ones.


def build(folder: Path) -> Path:
    """Make the runtime's tree, `/opt/kiket` in the image, below a folder, and give its path."""
    sources, tree = folder / "src", folder / "opt" / "kiket"
    reached = folder / "context"
    dockerfile.context((ROOT / ".dockerignore").read_text(), ROOT, reached)
    stage = dockerfile.stages(dockerfile.DOCKERFILE.read_text())[0]
    for copied in stage.all("COPY"):
        *names, to = copied.words
        for name in names:
            into = sources / to / (reached / name).name if len(names) > 1 else sources / to
            if (reached / name).is_dir():
                shutil.copytree(reached / name, into)
            else:
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(reached / name, into)
    (wheel,) = WheelBuilder(str(sources)).build(directory=str(folder / "dist"), versions=["standard"])
    venv.create(tree, with_pip=False, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", str(tree / "bin" / "python"), "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "--no-index", "--no-deps", "--no-compile", wheel], check=True)
    pins = _pins()
    for name in closure("kiket-worker"):
        if name != "kiket-worker":
            found = metadata.distribution(name)
            assert pins[name] == found.version, f"{name} is not at the constraints' version"
            _copy(found, tree)
    # Theirs came along; as in the image, nobody could write it later.
    subprocess.run([tree / "bin" / "python", "-m", "compileall", "-q", *tree.rglob("kiket_worker")], check=True)
    return tree


def closure(name: str) -> set[str]:
    """A distribution and all that it requires, without extras but those that a requirement asks for."""
    seen: set[tuple[str, str]] = set()
    waiting = [(canonicalize_name(name), "")]
    while waiting:
        one, extra = waiting.pop()
        if (one, extra) in seen:
            continue
        seen.add((one, extra))
        for text in metadata.requires(one) or ():
            wanted = Requirement(text)
            if wanted.marker is None or wanted.marker.evaluate({"extra": extra}):
                waiting += [(canonicalize_name(wanted.name), asked) for asked in ("", *wanted.extras)]
    return {one for one, _ in seen}


def _pins() -> dict[str, str]:
    lines = re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in lines}


def _copy(found: metadata.Distribution, tree: Path) -> None:
    """Every file that pip has recorded, with the times that its bytecode is known by, and scripts for this tree."""
    packages = tree / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    for file in found.files or ():
        source, target = Path(str(file.locate())), Path(os.path.normpath(packages / file))
        if not source.is_file():
            continue  # Bytecode that was never written.
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
        if target.parent.name == "bin":
            _, _, rest = target.read_bytes().partition(b"\n")
            target.write_bytes(f"#!{tree}/bin/python\n".encode() + rest)
