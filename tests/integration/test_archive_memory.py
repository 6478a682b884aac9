"""Memory: a large manifest is archived and brought back by pieces, in both stores."""

import hashlib
import json
import os
import random
import subprocess
import sys
import textwrap
from pathlib import Path
from uuid import UUID

import pytest

MIB = 1024 * 1024
LARGE = 50 * MIB
# What one process may need more for 50 MB than for one, in kilobytes. The directory holds a piece of each file in hand;
# S3 two parts of 8 MiB on their way, a third that is being read, and what a request makes of them.
MOST_KB = {"directory": 12 * 1024, "s3": 45 * 1024}

# Not `ru_maxrss`, which a child inherits from the process that has made it.
SCRIPT = """
import json, pathlib, re, sys
from kiket_worker.artifacts.archive import archive
from kiket_worker.artifacts.restoring import restore
from kiket_worker.artifacts.store import open_store

def peak_kb():
    return int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])

url, prefix, path, target = sys.argv[1:]
store = open_store(url)
archived = archive(store, prefix, {"manifest.json": pathlib.Path(path)}, {})
after_archive = peak_kb()
restore(store, prefix, pathlib.Path(target), index_sha256=archived.index_sha256)
print(json.dumps({"archive": after_archive, "restore": peak_kb(), "stored": archived.size}))
"""


@pytest.mark.parametrize("kind", ["directory", "s3"])
def test_a_manifest_of_fifty_megabytes_takes_hardly_more_memory_than_a_small_one(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    if kind == "directory":
        url = (tmp_path / "store").as_uri()
    else:
        url = f"s3://{request.getfixturevalue('s3_bucket')}/{tmp_path.name}"

    def measured(number: int, size: int) -> dict[str, int]:
        path, target = tmp_path / f"{number}.json", tmp_path / f"{number}"
        # Hardly to be compressed, so that what is stored is large too.
        path.write_bytes(random.Random(number).randbytes(size))
        arguments = [url, f"acme/{UUID(int=number)}/1", path, target]
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(SCRIPT), *map(str, arguments)],
            env=os.environ,
            check=True,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert digest(target / "manifest.json") == digest(path)
        return dict(json.loads(done.stdout))

    small, large = measured(1, MIB), measured(2, LARGE)
    assert large["stored"] > LARGE
    for step in ("archive", "restore"):
        assert large[step] - small[step] < MOST_KB[kind], (small, large)


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
