"""What a person sees: on a terminal, `refresh --wait` shows a table that lives while the run goes on."""

import codecs
import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Terminal:
    """The near end of a pseudo-terminal: all that was written to the far one."""

    def __init__(self) -> None:
        self.near, self.far = pty.openpty()
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._shown = ""

    def shows(self) -> str:
        while select.select([self.near], [], [], 0)[0]:
            try:
                self._shown += self._decoder.decode(os.read(self.near, 65536))
            except OSError:  # The other end is closed.
                break
        return self._shown


def test_a_refresh_on_a_terminal_shows_a_live_table_and_then_the_run(
    installation: Any, quick_dbt: Path, until: Callable[..., Any]
) -> None:
    hold = quick_dbt.with_name("hold")
    hold.touch()
    terminal = Terminal()
    process = subprocess.Popen(
        [Path(sys.executable).parent / "kiket-worker", "refresh", "acme", "--wait"],
        env={
            **installation.variables,
            "KIKET_DBT_EXECUTABLE": str(quick_dbt),
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "TERM": "xterm",
            "COLUMNS": "120",
            "LINES": "40",
        },
        stdin=terminal.far,
        stdout=terminal.far,
        stderr=terminal.far,
        start_new_session=True,
        cwd=installation.folder,
    )
    installation.started.append(process)
    os.close(terminal.far)
    try:
        until(lambda: "acme: running" in terminal.shows(), "the table says that the run is going on")
        hold.unlink()
        until(lambda: terminal.shows() and process.poll() is not None, "the command ends")
        shown = terminal.shows()
    finally:
        os.close(terminal.near)
    assert process.returncode == 0, shown
    live, summary = re.split(r"run [0-9a-f-]{36} of acme: succeeded", shown)
    assert "\x1b" in live
    assert "acme: running" in live
    assert "acme: running" not in summary
    for part in (live, summary):
        assert re.search(r"fct_throughput +success", part), part
