"""The source tables that the YAML of a dbt project declares, read without dbt."""

from collections.abc import Iterator
from dataclasses import dataclass

import yaml


@dataclass(frozen=True)
class SourceTable:
    """A table by its names in the project, and where it is: `relation` is its name in the database."""

    source: str
    name: str
    relation: str
    schema: str


def declared_sources(text: str) -> Iterator[SourceTable]:
    """Those of one file. What is no YAML, or of another shape than dbt's, is left to dbt's own words."""
    for source in _mappings(_section(text)):
        for table in _mappings(source.get("tables")):
            if name := table.get("name"):
                yield SourceTable(
                    str(source.get("name")),
                    str(name),
                    str(table.get("identifier") or name),
                    str(source.get("schema", "")),
                )


def _section(text: str) -> object:
    try:
        document = yaml.load(text, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError):  # Also of values that no tag fits.
        return None
    return document.get("sources") if isinstance(document, dict) else None


def _mappings(given: object) -> list[dict[object, object]]:
    return [item for item in given if isinstance(item, dict)] if isinstance(given, list) else []
