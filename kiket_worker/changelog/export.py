"""Write the newest evaluations to a file: whole or not at all, and only if something has changed."""

import os
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from kiket_worker.changelog.document import LIMIT, render
from kiket_worker.errors import ExportFailed
from kiket_worker.ledger import evaluations
from kiket_worker.ledger.database import Database


@dataclass(frozen=True)
class Exported:
    """What was exported. Not `changed`: the file says it already, and was not touched."""

    output: Path
    evaluations: int
    changed: bool


def export(database: Database, output: Path, *, organization_id: int | None = None) -> Exported:
    """Write the newest evaluations of one organisation, or of all.

    Raises `ExportFailed`, which leaves the file as it was. A process that is killed may leave a hidden `.part-…`.
    """
    found = evaluations.newest(database, organization_id=organization_id, limit=LIMIT)
    try:
        changed = _replace(Path(os.path.realpath(output)), render(found))
    except OSError as fault:
        raise ExportFailed(f"{output} cannot be written: {fault.strerror or fault}") from fault
    return Exported(output, len(found), changed)


def _replace(file: Path, content: bytes) -> bool:
    """Put the content in place of the file's in one step, when it is on the disk; give whether it was another one."""
    if file.is_file() and file.read_bytes() == content:
        return False
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.parent / f".part-{uuid4().hex}"
    try:
        with part.open("xb") as written:
            written.write(content)
            written.flush()
            os.fsync(written.fileno())
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return True
