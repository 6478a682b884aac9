"""Reading a query file: a query that widgets and alerts name by its id."""

from pathlib import PurePosixPath

from kiket_worker.definitions.dashboards import rules
from kiket_worker.definitions.dashboards.dashboard_file import read_file
from kiket_worker.definitions.dashboards.document import NamedQuery
from kiket_worker.definitions.dashboards.query_config import read_config
from kiket_worker.definitions.dashboards.reading import Reading, quoted
from kiket_worker.definitions.yaml_document import Located

_FILE_KEYS = ("model_version", "query")
_QUERY_KEYS = ("id", "name", "description", "query_config", "engine", "statement", "parameters")


def read_query(reading: Reading, document: Located) -> NamedQuery | None:
    """The query of a file, None where there is none. Its id is the file's name where it says none."""
    stated = read_file(reading, document, "query", _FILE_KEYS, _QUERY_KEYS)
    if stated is None:
        return None
    name = reading.identity(stated, "id", "the query", required=False) or PurePosixPath(reading.file).stem
    for key in ("name", "description"):
        reading.text(stated, key, "the query")
    what = f"query {quoted(name)}"
    value = stated.get("query_config")
    if value is None and stated.get("statement") is not None:
        reading.add(
            rules.UNCHECKED,
            stated.line_of("statement"),
            f"{what} is written in SQL, which is neither run nor checked here",
            "describe it by `query_config`, from which safe SQL is made",
        )
        return NamedQuery(reading.file, name, None, stated.line_of("id"))
    if value is None:
        reading.add(rules.SHAPE, stated.line, f"{what} has no 'query_config'", "add `query_config: …`")
        return NamedQuery(reading.file, name, None, stated.line_of("id"))
    config = read_config(reading, value, stated.line_of("query_config"), what, None)
    return NamedQuery(reading.file, name, config, stated.line_of("id"))
