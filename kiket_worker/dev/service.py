"""What the embedded services share: their error, one lock per directory, waiting, and the ending of processes."""

import fcntl
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import psutil

from kiket_worker.errors import KiketError, UsageError


class DevServiceFailed(KiketError):
    """An embedded service does not do what it was asked to; the message says why and what helps."""

    kind: ClassVar[str] = "dev_service_failed"


@contextmanager
def usable(directory: Path) -> Iterator[None]:
    """Make `directory` if need be, and say in the product's words what the system refuses while it is in use.

    Raises UsageError when there cannot be such a directory, DevServiceFailed for a full disk and the like.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(
            f"{directory} cannot be used as a directory: {reason}; choose another `--directory`"
        ) from error
    try:
        yield
    except BrokenPipeError:
        # Whoever read the output has gone: nothing of the directory's.
        raise
    except OSError as error:
        raise DevServiceFailed(f"the system refused something that is needed in {directory}: {error}") from error


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Make `directory` if need be and be the only one to start or stop a service in it, across processes.

    The kernel gives the lock back however its holder ends.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll `condition` for up to `seconds`; whether it came to hold."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.03)
    return True


def alive(process: psutil.Process) -> bool:
    """Whether this very process still runs.

    One that has ended but that nobody has collected counts as ended: in a container, an orphan's new parent may be a
    process that never collects it. A process that got the same pid later is another one.
    """
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def send(process: psutil.Process, number: signal.Signals) -> None:
    """Send a signal to a process that may have ended already. Raises DevServiceFailed when it is another user's."""
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        pass
    except psutil.AccessDenied as error:
        raise DevServiceFailed(
            f"process {process.pid} belongs to another user; stop the service as that user"
        ) from error


def end(find: Callable[[], list[psutil.Process]], grace_seconds: float = 0) -> None:
    """Wait `grace_seconds` for the processes that `find` finds to end by themselves, then kill what is left.

    Raises DevServiceFailed when even that leaves some.
    """
    if until(lambda: not find(), grace_seconds):
        return

    def killed() -> bool:
        # Found anew each time: a process may start another one just before it is killed.
        processes = find()
        for process in processes:
            send(process, signal.SIGKILL)
        return not processes

    if not until(killed, 10):
        left = ", ".join(str(process.pid) for process in find())
        raise DevServiceFailed(f"the processes {left} do not end, though killed; see `ps -o pid,stat,wchan,cmd {left}`")


def last_lines(log: Path) -> str:
    """The end of a service's log, indented, for an error message; long lines are cut."""
    try:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    return "\n".join(f"  {line[:200]}" for line in lines[-15:]) or "  (nothing logged)"
