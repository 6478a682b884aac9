"""A child process that ends with its worker: guarded, in a process group of its own, its output read while it runs."""

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from kiket_worker.dbt import guard
from kiket_worker.dbt.engine import Cancellation
from kiket_worker.errors import DbtExecutableMissing, DbtFailed, DbtKilled

_PIPE_CLOSE_MILLISECONDS = 5000


def run_child(
    command: list[str],
    *,
    folder: Path,
    environment: dict[str, str],
    read: Callable[[IO[bytes]], None],
    cancellation: Cancellation,
) -> int:
    """Run a command in `folder` with exactly this environment; give its exit code.

    `read` is called in a thread with the command's output (stdout and stderr together) and reads it to the end. When
    this returns or raises, nothing of the command is left running. Raises `DbtExecutableMissing`, `DbtKilled` and
    `DbtFailed`.
    """
    with _deadlines() as (given, tell):
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", guard.__file__, str(given), *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=environment,
                pass_fds=[given],
                # A group of its own: a signal reaches dbt with all that it started, and Ctrl-C at a terminal does not.
                start_new_session=True,
            )
        except OSError as fault:
            raise DbtExecutableMissing(f"the dbt executable {command[0]} cannot be run: {fault.strerror}") from None
        try:
            with cancellation.reaching(lambda: _kill_group(process), tell):
                assert process.stdout is not None
                reader = threading.Thread(target=read, args=(process.stdout,), daemon=True)
                reader.start()
                # Not reaped yet: as long as it is a zombie, no other process can get its number and be killed below.
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
                # Whatever dbt started and left behind holds the pipe open, and must not outlive the run.
                _kill_group(process)
                if not _has_no_writer(process.stdout, _PIPE_CLOSE_MILLISECONDS):
                    raise DbtFailed("dbt left a process behind that has left its process group; look for it by hand")
                reader.join()  # It comes to the end, however long the ledger takes for the last events.
        finally:
            _kill_group(process)
            code = process.wait()
        # The guard's own end, or the command's, which the guard tells as shells do.
        if code in (-signal.SIGKILL, 128 + signal.SIGKILL) and cancellation.reason is None:
            raise DbtKilled(
                "dbt was killed, and not by its worker: out of memory, perhaps, or the worker was stopped or cut off "
                "from Postgres for longer than its lease"
            )
        return code


def keep_end(pipe: IO[bytes], kept: bytearray, *, most_bytes: int) -> None:
    """Read a child's output to its end, of which the last bytes are kept: why it ended, if it did not say so itself."""
    while chunk := pipe.read(65536):
        kept += chunk
        del kept[:-most_bytes]


@contextmanager
def _deadlines() -> Iterator[tuple[int, Callable[[float], None]]]:
    """A pipe to the guard: the end that it gets, and what tells it until when the command may go on."""
    given, kept = os.pipe()
    os.set_blocking(kept, False)

    def tell(until: float) -> None:
        # A full pipe belongs to a guard that is stopped, a broken one to a guard that has ended.
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(kept, guard.DEADLINE.pack(until))

    try:
        yield given, tell
    finally:
        os.close(given)
        os.close(kept)


def _has_no_writer(pipe: IO[bytes], timeout_milliseconds: int) -> bool:
    """Whether every process that could write to the pipe has ended; what they have written may be unread yet."""
    poll = select.poll()
    poll.register(pipe, 0)  # A hang-up is always reported.
    return bool(poll.poll(timeout_milliseconds))


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
