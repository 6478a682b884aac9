"""Proving: run as a process of its own, `prover REQUEST`, as recordings take a lot of memory, which ends with it.

What it writes is a list of texts: where dbt did otherwise than the known bundle would, or, where none is given, why the
probes failed; if they did not, it writes the compiled bundle as well.
"""

import json
import sys
from pathlib import Path
from typing import Any

from kiket_worker.dbt.replay import compiled
from kiket_worker.dbt.replay.proof import STATES, ProbeFailed, Recording, differences, prove


def main() -> None:
    """Prove or compare what the request names."""
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    recordings = [
        Recording(json.loads(Path(one["file"]).read_text(encoding="utf-8")), one["values"], one["places"])
        for one in request["recordings"]
    ]
    found = _compared(request, *recordings) if request["known"] else _proven(request, *recordings)
    Path(request["output"]).write_text(json.dumps(found), encoding="utf-8")


def _compared(request: dict[str, Any], recording: Recording) -> list[str]:
    known = compiled.load(Path(request["known"]).read_bytes(), request["key"])
    return differences(known, recording.document["states"][STATES[0]], recording.values)


def _proven(request: dict[str, Any], first: Recording, second: Recording) -> list[str]:
    try:
        bundle = prove(first, second, key=request["key"], versions=request["versions"])
    except ProbeFailed as fault:
        return fault.reasons
    Path(request["bundle"]).write_bytes(bundle.dump())
    return []


if __name__ == "__main__":
    main()
