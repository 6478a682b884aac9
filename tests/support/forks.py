"""A program that is started often: imported once by a server, so that each start is a fork of it.

`client` gives an executable that sends its arguments, environment, folder and files to the server. The server forks,
and the child is the program as it would be by itself. It dies with its client, which ends as it does. `start` does
without that executable, for who has to know the number of the process itself.
"""

import atexit
import contextlib
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, Any

_CLIENT = """#!{python} -IS
import json, os, signal, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({socket!r})
asked = json.dumps([sys.argv[1:], dict(os.environ), os.getcwd(), False]).encode()
socket.send_fds(server, [len(asked).to_bytes(8, "big")], [0, 1, 2])
server.sendall(asked)
server.recv(4)
code = server.recv(4)
if not code:
    os.kill(os.getpid(), signal.SIGKILL)
os._exit(int.from_bytes(code, "big"))
"""


def client(name: str, module: str) -> Path:
    """An executable of this name, whose server is started now and ends with this process: `module`'s `main`."""
    folder = Path(tempfile.mkdtemp(prefix="kiket-forks-", dir="/tmp"))
    made, address = folder / name, str(folder / "socket")
    made.write_text(_CLIENT.format(python=sys.executable, socket=address))
    made.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(16)  # Whoever connects before the program is imported waits in line.
        # By this descriptor the server sees that this process has ended, however it did.
        numbers = [listener.fileno(), os.pidfd_open(os.getpid())]
        # Not by -m: what a program finds as `__main__` has no package, as that of a script has none.
        command = [sys.executable, "-P", "-c", f"from {module} import main; main()", *map(str, numbers)]
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=numbers)
        os.close(numbers[1])

    def end() -> None:
        server.kill()
        server.wait()
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()

    atexit.register(end)
    return made


class Fork:
    """A process that a server has forked for this one: what is needed of a `subprocess.Popen`.

    Until it is forgotten it is known by a descriptor of its own, so that no other process can be taken for it.
    """

    def __init__(self, server: socket.socket) -> None:
        self._server = server
        told, (self._descriptor,), _, _ = socket.recv_fds(server, 4, 1)
        self.pid = int.from_bytes(told, "big")
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The code it has ended with, if it has; -9 if it could not tell any."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._descriptor], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            code = self._server.recv(4)
            self.returncode = int.from_bytes(code, "big") if code else -signal.SIGKILL
            self._server.close()
            os.close(self._descriptor)
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            signal.pidfd_send_signal(self._descriptor, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start(
    executable: Path, arguments: Sequence[str], *, environment: Mapping[str, str], folder: Path, output: IO[Any]
) -> Fork:
    """Start what `client` gave, in a session of its own and with its output in a file."""
    server = socket.socket(socket.AF_UNIX)
    server.connect(str(executable.with_name("socket")))
    asked = json.dumps([arguments, dict(environment), str(folder), True]).encode()
    with Path(os.devnull).open("rb") as nothing:
        files = [nothing.fileno(), output.fileno(), output.fileno()]
        socket.send_fds(server, [len(asked).to_bytes(8, "big")], files)
    server.sendall(asked)
    return Fork(server)


# Of a child: its client, and the code that it ends with.
_ended: list[tuple[socket.socket, int]] = []


def _tell() -> None:
    for asking, code in _ended:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        asking.sendall(code.to_bytes(4, "big"))
        # What is left is to take the program to pieces, for which nobody has to wait; meanwhile it would hold files.
        os._exit(code)


def serve(warm: Callable[[], None], run: Callable[[list[str]], None]) -> None:
    """Import by `warm`, and serve until the parent ends: each child calls `run` with its arguments."""
    atexit.register(_tell)  # The first one, so it runs last: when the client has ended, the child is killed.
    warm()
    gc.freeze()  # A child does not look for garbage in what it shares with the server.
    signal.signal(signal.SIGCHLD, _bury)
    server, parent = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    while parent not in select.select([server, parent], [], [])[0]:
        asking, _ = server.accept()
        if os.fork() == 0:
            server.close()
            os.close(parent)
            _become(asking, run)
        asking.close()
    os._exit(0)


def _bury(_number: int, _frame: FrameType | None) -> None:
    """Bury the children that have ended: by hand, as only so what they have computed is counted as the server's."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _become(asking: socket.socket, run: Callable[[list[str]], None]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, files, _, _ = socket.recv_fds(asking, 8, 3)
    asked = b""
    while len(asked) < int.from_bytes(size, "big"):
        asked += asking.recv(1 << 20)
    arguments, environment, folder, is_leader = json.loads(asked)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    if is_leader:
        os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    tempfile.tempdir = None  # It is asked for again, as the environment has it.
    os.chdir(folder)
    descriptor = os.pidfd_open(os.getpid())
    socket.send_fds(asking, [os.getpid().to_bytes(4, "big")], [descriptor])
    os.close(descriptor)
    threading.Thread(target=_die_with, args=(asking,), daemon=True).start()
    code = 1
    try:
        run(arguments)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    _ended.append((asking, code))
    sys.exit()


def _die_with(asking: socket.socket) -> None:
    if not asking.recv(1):
        os.kill(os.getpid(), signal.SIGKILL)
