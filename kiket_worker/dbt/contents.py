"""What a bundle's files say that it has, read without dbt: the names of its models and of the tables that they read."""

import re
from dataclasses import dataclass

from kiket_worker.dbt.bundle import Bundle
from kiket_worker.dbt.sources import declared_sources

_EPHEMERAL = re.compile(rb"""materialized\s*=\s*["']ephemeral["']""")


@dataclass(frozen=True)
class Contents:
    """Models by their names, and of each source table whether it is read from the organisation's own schema.

    Those that are `ephemeral` by their own text are parts of others, and no relations.
    """

    models: frozenset[str]
    shared_models: frozenset[str]
    raw_tables: tuple[str, ...]
    ephemeral: frozenset[str] = frozenset()


def contents_of(bundle: Bundle) -> Contents:
    """The contents of a bundle. Files that are no YAML, or of another shape than dbt's, are left to dbt's own words."""
    folder = bundle.project_dir / "models"
    models = {path.stem: path for path in folder.rglob("*.sql")}
    shared = {name for name, path in models.items() if path.is_relative_to(folder / "shared")}
    tables = {
        table.relation
        for path in sorted([*folder.rglob("*.yml"), *folder.rglob("*.yaml")])
        for table in declared_sources(path.read_text(encoding="utf-8", errors="replace"))
        # Tables in the organisation's own schema come from the platform's data modules, and have no gate.
        if "organization_schema" not in table.schema
    }
    ephemeral = {name for name, path in models.items() if _EPHEMERAL.search(path.read_bytes())}
    return Contents(frozenset(models.keys() - shared), frozenset(shared), tuple(sorted(tables)), frozenset(ephemeral))
