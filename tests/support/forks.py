"""A program that is started often: imported once by a server, so that each start is a fork of it.

`client` gives an executable that sends its arguments, environment, folder and files to the server. The server forks,
and the child is the program as it would be by itself. It dies with its client, which ends as it does.
"""

import atexit
import contextlib
import ctypes
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

_CLIENT = """#!{python} -IS
import json, os, signal, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({socket!r})
asked = json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]).encode()
socket.send_fds(server, [len(asked).to_bytes(8, "big")], [0, 1, 2])
server.sendall(asked)
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
        number = listener.fileno()
        # Not by -m: what a program finds as `__main__` has no package, as that of a script has none.
        command = [sys.executable, "-P", "-c", f"from {module} import main; main()", str(number)]
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[number])

    def end() -> None:
        server.kill()
        server.wait()
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()

    atexit.register(end)
    return made


# Of a child: its client, and the code that it ends with.
_ended: list[tuple[socket.socket, int]] = []


def _tell() -> None:
    for asking, code in _ended:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        asking.sendall(code.to_bytes(4, "big"))


def serve(warm: Callable[[], None], run: Callable[[list[str]], None]) -> None:
    """Import by `warm`, and serve until the parent ends: each child calls `run` with its arguments."""
    atexit.register(_tell)  # The first one, so it runs last: when the client has ended, the child is killed.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    warm()
    gc.freeze()  # A child does not look for garbage in what it shares with the server.
    signal.signal(signal.SIGCHLD, _bury)
    server = socket.socket(fileno=int(sys.argv[1]))
    while True:
        asking, _ = server.accept()
        if os.fork() == 0:
            server.close()
            _become(asking, run)
        asking.close()


def _bury(_number: int, _frame: FrameType | None) -> None:
    """Bury the children that have ended: by hand, as only so what they have computed is counted as the server's."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _become(asking: socket.socket, run: Callable[[list[str]], None]) -> None:
    size, files, _, _ = socket.recv_fds(asking, 8, 3)
    asked = b""
    while len(asked) < int.from_bytes(size, "big"):
        asked += asking.recv(1 << 20)
    arguments, environment, folder = json.loads(asked)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(folder)
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
