"""What dbt makes in a schema, read from what it leaves: relations by their names, and as what each is made."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# By dbt's materialisations, in the words of SQL. Others make no relation, or none that is known by its node alone.
_MADE_AS = {
    "view": "view",
    "table": "table",
    "incremental": "table",
    "seed": "table",
    "snapshot": "table",
    "materialized_view": "materialized view",
}


@dataclass(frozen=True)
class Relations:
    """What a bundle has for a schema, and what of it a build has really made."""

    wanted: dict[str, str]
    made: dict[str, str]


def relations_of(manifest: Path | None, results: Path | None, schema: str) -> Relations | None:
    """The relations of a build; None where dbt has left nothing that tells, so that nothing is known of them.

    Formats: https://schemas.getdbt.com/dbt/manifest/v12.json and https://schemas.getdbt.com/dbt/run-results/v6.json
    """
    if manifest is None or results is None:
        return None
    try:
        nodes: dict[str, Any] = json.loads(manifest.read_bytes())["nodes"]
        wanted = {
            unique_id: (str(node["alias"]), _MADE_AS[node["config"]["materialized"]])
            for unique_id, node in nodes.items()
            if node["schema"] == schema and node["config"]["materialized"] in _MADE_AS
        }
        ended = json.loads(results.read_bytes())["results"]
        made = [wanted[one["unique_id"]] for one in ended if one["status"] == "success" and one["unique_id"] in wanted]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return Relations(dict(wanted.values()), dict(made))
