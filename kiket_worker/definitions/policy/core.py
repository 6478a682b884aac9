"""What an overlay is composed with: the names that the core project and dbt itself have already."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml
from dbt.include.global_project import PACKAGE_PATH as GLOBAL_PROJECT
from dbt.include.postgres import PACKAGE_PATH as POSTGRES

from kiket_worker.dbt.overlay import OF_DBT, Kind, Overlay, is_yaml
from kiket_worker.dbt.sources import declared_sources

_MACRO = re.compile(r"\{%[-+]?\s*(macro|test|data_test)\s+(\w+)\s*\(")
# The core project's macros that print, for all overlays alike. Its others ask the database, or answer dbt.
_PUBLIC = frozenset({"tenant_filter", "current_day", "organization_schema", "shared_schema"})
# dbt looks for macros by such names, and takes whichever it finds.
_DISPATCHED = re.compile(
    r"(default|postgres)__\w+|get_incremental_\w+_sql|generate_\w+_name(_for_\w+)?|materialization_\w+"
)


@dataclass(frozen=True)
class Known:
    """Names, without the overlay's own. `models` has the seeds too; sources are pairs of source and table.

    `private` are those of the macros that are the core project's own business.
    """

    models: frozenset[str]
    macros: frozenset[str]
    private: frozenset[str]
    sources: frozenset[tuple[str, str]]
    project: str

    @classmethod
    def of(cls, project_dir: Path, others: Mapping[str, Overlay]) -> "Known":
        """Those of the core project in a folder, and of the organisation's other overlays."""
        texts = {path.relative_to(project_dir).as_posix(): path.read_text() for path in _files(project_dir)}
        models = {Path(path).stem for path in texts if path.startswith("models/") and path.endswith(".sql")}
        macros = {name for text in texts.values() for name in macros_of(text)}
        sources, private = _sources(texts), frozenset(macros - _PUBLIC)
        for overlay in others.values():
            models |= overlay.models.keys()
            macros |= {name for text in overlay.of_kind(Kind.MACRO, Kind.TEST).values() for name in macros_of(text)}
            sources |= _sources(overlay.of_kind(*OF_DBT))
        name = str(yaml.safe_load(texts["dbt_project.yml"])["name"])
        return cls(frozenset(models), frozenset(macros), private, frozenset(sources), name)


def macros_of(text: str) -> list[str]:
    """The names of the macros that a text defines, generic tests by the names that they are macros under."""
    return [name if kind == "macro" else f"test_{name}" for kind, name in _MACRO.findall(text)]


@cache
def macros_of_dbt() -> frozenset[str]:
    """The names of dbt's own macros, as this dbt has them."""
    texts = [path.read_text() for package in (GLOBAL_PROJECT, POSTGRES) for path in Path(package).rglob("*.sql")]
    return frozenset(name for text in texts for name in macros_of(text))


def is_dispatched(name: str) -> bool:
    """Whether dbt may look for a macro of this name by itself."""
    return bool(_DISPATCHED.fullmatch(name))


def _files(folder: Path) -> Iterator[Path]:
    for pattern in ("dbt_project.yml", "models/**/*", "macros/**/*", "tests/**/*"):
        yield from (path for path in folder.glob(pattern) if path.suffix == ".sql" or is_yaml(path.name))


def _sources(texts: Mapping[str, str]) -> set[tuple[str, str]]:
    yaml_texts = [text for path, text in texts.items() if is_yaml(path)]
    return {(table.source, table.name) for text in yaml_texts for table in declared_sources(text)}
