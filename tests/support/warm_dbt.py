"""dbt for tests that need many of its runs: imported once, so that each takes two and a half seconds less of computing.

`executable()` is a client of a server that has imported dbt. It sends its arguments, environment, folder and files; the
server forks, and the child is dbt as it would be by itself. It dies with its client, which ends as it does.
"""

import atexit
import contextlib
import ctypes
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from functools import cache
from pathlib import Path

# `dbt …`; or `python -m MODULE …` where the first argument is -m.
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


@cache
def executable() -> Path:
    """A dbt executable, whose server is started at the first call and ends with this process."""
    folder = Path(tempfile.mkdtemp(prefix="kiket-dbt-", dir="/tmp"))
    client, address = folder / "dbt", str(folder / "socket")
    client.write_text(_CLIENT.format(python=sys.executable, socket=address))
    client.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(16)  # Whoever connects before dbt is imported waits in line.
        number = listener.fileno()
        command = [sys.executable, __file__, str(number)]
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[number])

    def end() -> None:
        server.kill()
        server.wait()
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()

    atexit.register(end)
    return client


# Of a child: its client, and the code that it ends with.
_ended: list[tuple[socket.socket, int]] = []


def _tell() -> None:
    for client, code in _ended:
        client.sendall(code.to_bytes(4, "big"))


def main() -> None:
    """Serve until the parent ends."""
    atexit.register(_tell)  # The first one, so it runs last: when the client has ended, the child is killed.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    _warm()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # The kernel buries the children.
    server = socket.socket(fileno=int(sys.argv[1]))
    while True:
        client, _ = server.accept()
        if os.fork() == 0:
            server.close()
            _become(client)
        client.close()


def _warm() -> None:
    for name in ("dbt.cli.main", "dbt.adapters.postgres", "dbt.task.run", "psycopg"):
        importlib.import_module(name)
    from dbt_common.dataclass_schema import dbtClassMixin

    waiting = [dbtClassMixin]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if kind.__name__.endswith("Config") or kind.__name__.startswith("Unparsed"):
            with contextlib.suppress(Exception):  # Those that have none, dbt does not ask for it either.
                kind.json_schema()


def _become(client: socket.socket) -> None:
    size, files, _, _ = socket.recv_fds(client, 8, 3)
    asked = b""
    while len(asked) < int.from_bytes(size, "big"):
        asked += client.recv(1 << 20)
    arguments, environment, folder = json.loads(asked)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(folder)
    threading.Thread(target=_die_with, args=(client,), daemon=True).start()
    code = 1
    try:
        if arguments[:1] == ["-m"]:
            sys.argv = arguments[1:]
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = ["dbt", *arguments]
            importlib.import_module("dbt.cli.main").cli()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    _ended.append((client, code))
    sys.exit()


def _die_with(client: socket.socket) -> None:
    if not client.recv(1):
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
