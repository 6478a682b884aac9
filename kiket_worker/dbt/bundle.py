"""The bundle: one dbt project as it is run, named by the digest of its content."""

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath

from kiket_worker.dbt.redaction import words_of
from kiket_worker.shipped import shipped

# What dbt and its users leave in a project's folder, and what dbt does not read there. Below `models` it reads
# whatever is called so.
_NOT_CONTENT_AT_THE_TOP = {"target", "logs", "dbt_packages", "README.md"}
_NOT_CONTENT_ANYWHERE = {"__pycache__", ".user.yml"}


# Built by the shared refresh; an organisation's project has them for its models' references.
SHARED_MODELS = "tag:shared"

# The part that is built once for all organisations: no model of an organisation's is among it, nor can dbt parse one
# without an organisation.
_SHARED = ("dbt_project.yml", "profiles", "macros", "tests/generic", "models/shared")


@dataclass(frozen=True)
class Bundle:
    """A dbt project folder with its profiles; with `parts`, only these files and folders of it."""

    project_dir: Path
    parts: tuple[str, ...] = ()

    @property
    def profiles_dir(self) -> Path:
        """Where `profiles.yml` is."""
        return self.project_dir / "profiles"

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the names and contents of the project's files, in the order of their names."""
        digest = hashlib.sha256()
        for name, path in self._files():
            content = path.read_bytes()
            # Lengths keep two files from looking like one with another name.
            digest.update(f"{name.as_posix()}\0{len(content)}\0".encode())
            digest.update(content)
        return digest.hexdigest()

    @cached_property
    def has_seeds(self) -> bool:
        """Whether it has tables of its own as files, which `dbt run` does not load."""
        return any(name.parts[0] == "seeds" and name.suffix == ".csv" for name, _ in self._files())

    @cached_property
    def words(self) -> frozenset[str]:
        """Every word of its files, in lower case: what a name of the project's can be made of."""
        return words_of(*(path.read_text(encoding="utf-8", errors="replace") for _, path in self._files()))

    def laid_out(self, folder: Path) -> "Bundle":
        """A copy of the files in a folder of its own, which dbt can run; its digest is the same."""
        for name, path in self._files():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / name)
        return Bundle(folder)

    def _files(self) -> Iterator[tuple[PurePath, Path]]:
        for path in sorted(self.project_dir.rglob("*")):
            name = path.relative_to(self.project_dir)
            if name.parts[0] in _NOT_CONTENT_AT_THE_TOP or _NOT_CONTENT_ANYWHERE & set(name.parts):
                continue
            if self.parts and not any(name.is_relative_to(part) for part in self.parts):
                continue
            if path.is_file():
                yield name, path


def core_bundle() -> Bundle:
    """The project that every organisation runs: inside the installed package, or beside it in a checkout."""
    return Bundle(shipped("analytics/dbt"))


def shared_bundle(core: Bundle) -> Bundle:
    """The part of a project that is built once for all organisations; to be laid out before dbt can run it."""
    return Bundle(core.project_dir, _SHARED)
