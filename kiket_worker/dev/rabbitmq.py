"""A private RabbitMQ node for development and tests, of the RabbitMQ that the machine has installed.

The node has its own name, ports, data, cookie, configuration and epmd, so it neither meets nor disturbs another one. It
listens on 127.0.0.1 only, outlives the process that starts it, and ends when `stop` says so.
"""

import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import pika
import psutil
from pika.exceptions import AMQPError

from kiket_worker.dev.service import DevServiceFailed, alive, end, last_lines, locked, send, until

START_SECONDS = 90
STOP_SECONDS = 20

# Each process carries it in its environment from its first moment. So the processes are found whenever their starter
# was killed, and a pid that another program has got since is never mistaken for one of theirs.
_MARK = "KIKET_DEV_RABBITMQ"

_PORTS_FILE = "ports.json"

# Processes that linger for a moment after the node has ended, or, as epmd, that outlive it.
_HELPERS = frozenset({"epmd", "erl_child_setup", "inet_gethost"})

_CONFIGURATION = """\
log.file = false
log.console = true
log.console.level = info
# A laptop's disk may be nearly full, and below this limit RabbitMQ reads nothing more from publishers.
disk_free_limit.absolute = 10MB
"""


@dataclass(frozen=True)
class Ports:
    """Where a node listens. They are kept beside its data: clients find it again after a restart."""

    amqp: int
    distribution: int
    epmd: int

    @property
    def url(self) -> str:
        """For clients; RabbitMQ lets its default user in from this machine only."""
        return f"amqp://guest:guest@127.0.0.1:{self.amqp}/%2F"


def start(directory: Path) -> str:
    """Start the node whose data lives in `directory`, or find it running; its URL.

    Safe to call from several processes at once and after any of them, or the node, was killed: ports and data stay.
    Raises DevServiceFailed when RabbitMQ is not installed, and, with the end of the log, when the node does not start
    within `START_SECONDS`.
    """
    directory = directory.resolve()
    server = executable()
    with locked(directory):
        directory.chmod(0o700)
        known = (directory / _PORTS_FILE).exists()
        ports = _ports(directory)
        # A node whose directory was removed meanwhile listens on ports that nobody knows any more.
        if not known or not _node(directory):
            end(lambda: _processes(directory))
            _launch(directory, ports, server)
        node = _node(directory)
        until(lambda: _answers(ports) or _has_ended(node, directory), START_SECONDS)
        if not _node(directory) or not _answers(ports):
            end(lambda: _processes(directory))
            log = directory / "rabbitmq.log"
            raise DevServiceFailed(f"RabbitMQ in {directory} did not start; the end of {log}:\n{last_lines(log)}")
    return ports.url


def url(directory: Path) -> str | None:
    """The URL of the node that runs in `directory`; None where none does. Changes nothing."""
    directory = directory.resolve()
    if not (directory / _PORTS_FILE).exists() or not _node(directory):
        return None
    ports = _ports(directory)
    return ports.url if _answers(ports) else None


def stop(directory: Path) -> None:
    """Stop the node of `directory` and its epmd, and wait until all processes have ended; nothing when none runs."""
    directory = directory.resolve()
    with locked(directory) if directory.exists() else nullcontext():
        node = _node(directory)
        for process in node:
            send(process, signal.SIGTERM)
        until(lambda: _has_ended(node, directory), STOP_SECONDS)
        end(lambda: _processes(directory))


def kill(directory: Path) -> None:
    """Kill the node of `directory` as a crash would, and wait until it has ended; `start` brings it back."""
    directory = directory.resolve()
    with locked(directory) if directory.exists() else nullcontext():
        end(lambda: _node(directory))


def executable() -> str:
    """The RabbitMQ that is installed. Raises DevServiceFailed, with the remedy, when there is none."""
    # Debian's command of this name changes to the user rabbitmq and to its directory; what it wraps does not.
    for candidate in ("/usr/lib/rabbitmq/bin/rabbitmq-server", "rabbitmq-server"):
        found = shutil.which(candidate, path=_search_path())
        if found is not None:
            return found
    raise DevServiceFailed(
        "RabbitMQ is not installed; install it with `scripts/install-debian rabbitmq-server` or "
        "`apt-get install rabbitmq-server`"
    )


def _search_path() -> str:
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/bin", "/sbin", "/bin"])


def _ports(directory: Path) -> Ports:
    state = directory / _PORTS_FILE
    if state.exists():
        return Ports(**json.loads(state.read_text()))
    # Below the range that systems give to outgoing connections: while the node is down, nobody takes its ports.
    choice: list[int] = []
    while len(choice) < 3:
        port = random.SystemRandom().randrange(20_000, 32_000)
        if port not in choice and _free(port):
            choice.append(port)
    ports = Ports(*choice)
    fresh = directory / f"{_PORTS_FILE}.new"
    fresh.write_text(json.dumps(asdict(ports)))
    fresh.rename(state)
    return ports


def _free(port: int) -> bool:
    with closing(socket.socket()) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _launch(directory: Path, ports: Ports, server: str) -> None:
    configuration, plugins, no_settings = (directory / name for name in ("rabbitmq.conf", "plugins", "env.conf"))
    configuration.write_text(_CONFIGURATION)
    plugins.write_text("[].\n")
    no_settings.write_text("")
    cookie = directory / ".erlang.cookie"
    if not cookie.exists():
        # Whoever knows it may run code in the node; one that Erlang makes up can be guessed from its time.
        cookie.touch(mode=0o600)
        cookie.write_text(secrets.token_hex(16))
    environment = {
        _MARK: str(directory),
        "PATH": _search_path(),
        "HOME": str(directory),
        "LANG": "C.UTF-8",
        "ERL_EPMD_PORT": str(ports.epmd),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_CRASH_DUMP_SECONDS": "0",
        "RABBITMQ_NODENAME": "kiket@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(ports.amqp),
        "RABBITMQ_DIST_PORT": str(ports.distribution),
        "RABBITMQ_MNESIA_BASE": str(directory / "data"),
        "RABBITMQ_LOG_BASE": str(directory),
        "RABBITMQ_PID_FILE": str(directory / "pid"),
        "RABBITMQ_CONFIG_FILE": str(configuration),
        "RABBITMQ_CONFIG_FILES": str(directory / "conf.d" / "*.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(directory / "advanced.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
        "RABBITMQ_CONF_ENV_FILE": str(no_settings),
        # Two schedulers are plenty here, and each further one costs start time and memory; none waits by computing.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"
        " -kernel inet_dist_use_interface {127,0,0,1}",
        # The script then becomes the node, instead of staying as its parent and stopping it by rabbitmqctl.
        "RUNNING_UNDER_SYSTEMD": "true",
    }
    # An epmd that Erlang starts by itself would listen on the common port, and stay for ever.
    _detach(["epmd", "-port", str(ports.epmd), "-address", "127.0.0.1"], directory, environment)
    until(lambda: _listens(ports.epmd), 10)
    _detach([server], directory, environment)


def _detach(command: list[str], directory: Path, environment: dict[str, str]) -> None:
    """Run `command` in a session of its own and as nobody's child: Ctrl-C does not reach it, no zombie is left."""
    subprocess.run(
        ["/bin/sh", "-c", '"$@" </dev/null >>"$0" 2>&1 &', str(directory / "rabbitmq.log"), *command],
        env=environment,
        cwd=directory,
        start_new_session=True,
        check=True,
    )


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True


def _answers(ports: Ports) -> bool:
    """Whether a client can log in."""
    # Asked first, because pika logs an error for each refused connection.
    if not _listens(ports.amqp):
        return False
    parameters = pika.URLParameters(ports.url)
    parameters.socket_timeout = parameters.stack_timeout = parameters.blocked_connection_timeout = 5
    try:
        pika.BlockingConnection(parameters).close()
    except AMQPError:
        return False
    return True


def _processes(directory: Path, but: frozenset[str] = frozenset()) -> list[psutil.Process]:
    """What was started for `directory` and still runs, except processes of the names in `but`."""

    def belongs(process: psutil.Process) -> bool:
        environment = process.info["environ"]
        if environment:
            return bool(environment.get(_MARK) == str(directory))
        # Between two programs, at an exec, a process has no environment for a moment, but keeps its directory.
        return bool(process.info["cwd"] == str(directory))

    processes = psutil.process_iter(["name", "environ", "cwd"])
    return [process for process in processes if belongs(process) and process.info["name"] not in but and alive(process)]


def _node(directory: Path) -> list[psutil.Process]:
    """The node, or the script that is about to become it."""
    return _processes(directory, but=_HELPERS)


def _has_ended(known: list[psutil.Process], directory: Path) -> bool:
    """Whether there is no node. Those that are known are asked first: to look through all processes takes a while."""
    return not any(map(alive, known)) and not _node(directory)
