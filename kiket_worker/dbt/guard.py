"""The guard of a child process: a process between a worker and its dbt that ends dbt when the worker cannot.

Run as a script: `guard.py FD COMMAND…`. It leads a process group of its own, runs the command in it, and ends with the
command's exit code. From FD, a pipe, it reads until when the command may go on, as 8-byte floats of the system's
monotonic clock. When that moment passes (the worker is stopped, or cut off from Postgres), or the pipe is closed (the
worker is dead, however it died), the guard kills its whole group. It imports little, as it is started for every run.
"""

import ctypes
import os
import select
import signal
import struct
import sys
import time

CANNOT_EXECUTE = 126  # What shells give for a command that is found and cannot be run.
DEADLINE = struct.Struct("d")

_PR_SET_PDEATHSIG = 1  # prctl(2)


def main() -> None:
    """Guard the command of the arguments."""
    pipe, command = int(sys.argv[1]), sys.argv[2:]
    child = os.fork()
    if child == 0:
        os.close(pipe)
        _become(command)
    os.set_blocking(pipe, False)
    ended = os.pidfd_open(child)
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    poll.register(ended, select.POLLIN)
    until: float | None = None
    while True:
        wait = None if until is None else max(0, int((until - time.monotonic()) * 1000) + 1)
        ready = dict(poll.poll(wait))
        if ended in ready:
            _, status = os.waitpid(child, 0)
            code = os.waitstatus_to_exitcode(status)
            sys.exit(code if code >= 0 else 128 - code)
        if pipe in ready:
            said = os.read(pipe, 1024 * DEADLINE.size)
            if not said:
                os.killpg(0, signal.SIGKILL)
            (until,) = DEADLINE.unpack(said[-DEADLINE.size :])
        if until is not None and time.monotonic() >= until:
            os.killpg(0, signal.SIGKILL)


def _become(command: list[str]) -> None:
    # Should the guard itself be killed, the kernel ends the command.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == 1:  # The guard was killed before that was said.
        os._exit(CANNOT_EXECUTE)
    try:
        os.execv(command[0], command)  # noqa: S606  # the command is the operator's, and no shell is wanted
    except OSError as fault:
        sys.stdout.write(f"{fault.strerror}\n")
        sys.stdout.flush()
        os._exit(CANNOT_EXECUTE)


if __name__ == "__main__":
    main()
