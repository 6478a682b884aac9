"""The bundle: one dbt project as it is run, named by the digest of its content."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import kiket_worker

# What dbt and its users leave in a project's folder, and what dbt does not read there. Below `models` it reads
# whatever is called so.
_NOT_CONTENT_AT_THE_TOP = {"target", "logs", "dbt_packages", "README.md"}
_NOT_CONTENT_ANYWHERE = {"__pycache__", ".user.yml"}


@dataclass(frozen=True)
class Bundle:
    """A dbt project folder with its profiles."""

    project_dir: Path

    @property
    def profiles_dir(self) -> Path:
        """Where `profiles.yml` is."""
        return self.project_dir / "profiles"

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the names and contents of the project's files, in the order of their names."""
        digest = hashlib.sha256()
        for path in sorted(self.project_dir.rglob("*")):
            name = path.relative_to(self.project_dir)
            if name.parts[0] in _NOT_CONTENT_AT_THE_TOP or _NOT_CONTENT_ANYWHERE & set(name.parts):
                continue
            if path.is_file():
                content = path.read_bytes()
                # Lengths keep two files from looking like one with another name.
                digest.update(f"{name.as_posix()}\0{len(content)}\0".encode())
                digest.update(content)
        return digest.hexdigest()


def core_bundle() -> Bundle:
    """The project that every organisation runs: inside the installed package, or beside it in a checkout."""
    package = Path(kiket_worker.__file__).parent
    installed, checkout = package / "analytics" / "dbt", package.parent / "analytics" / "dbt"
    return Bundle(installed if installed.is_dir() else checkout)
