"""Reading a checked-out definition repository: which files count, and that they are texts of a bearable size.

The repository is a stranger's: nothing outside of it is read, whatever its links say, nothing that blocks is opened,
and however much there is, only so much is looked at.
"""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kiket_worker.dbt.overlay import Overlay, is_yaml, kind_of, may_hold_definitions
from kiket_worker.definitions import rules
from kiket_worker.definitions.problem import Problem, Rule
from kiket_worker.definitions.yaml_document import InvalidYaml, read_yaml
from kiket_worker.errors import UsageError

MOST_ENTRIES = 5000
MOST_FILE_BYTES = 256 * 1024
MOST_BYTES = 8 * 1024 * 1024
# Reading it takes five seconds of a core at most, whatever is in it, and so does what dashboards need of it once more.
MOST_YAML_BYTES = 1024 * 1024
_MOST_PATH = 200

_PATH = re.compile(r"(\.kiket/)?[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
# Of control characters, what editors write.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_BOM = "\ufeff"


@dataclass
class Repository:
    """What was read: the texts that are as they should be, and what is wrong with the others.

    `unread` are the texts of the others, as far as they are texts: their lines are shown beside what is wrong.
    """

    files: dict[str, str] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    characters: int = 0
    yaml_characters: int = 0

    @property
    def overlay(self) -> Overlay:
        """The files that can be used."""
        return Overlay(self.files)


class _TooMany(Exception):
    """There is more than is looked at."""


class _Refused(Exception):
    """A file that is not taken."""

    def __init__(self, rule: Rule, message: str, hint: str) -> None:
        super().__init__(message)
        self.rule, self.message, self.hint = rule, message, hint


def read_repository(root: Path) -> Repository:
    """Read what counts of a repository. Raises `UsageError` where there is no such folder."""
    check_folder(root)
    repository = Repository()
    try:
        for path, entry in _entries(root):
            _read(root, path, entry, repository)
    except _TooMany as fault:
        repository.problems.append(
            rules.REPOSITORY_SIZE.problem("", 1, str(fault), "Split the repository, or take away what is not needed.")
        )
    except OSError as fault:
        raise UsageError(f"{root} cannot be read: {fault.strerror}") from fault
    _find_case_clashes(repository)
    return repository


def check_folder(root: Path) -> None:
    """Raise `UsageError` where a path is no folder."""
    if not root.is_dir():
        raise UsageError(f"{root} is no folder: give the path of a checked-out definition repository")


def _entries(root: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """What lies in the folders that count, in the order of names; links to folders are not followed."""
    folders, seen = [""], 0
    while folders:
        folder = folders.pop()
        entries = []
        with os.scandir(root / folder) as found:
            for entry in found:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if not (kind_of(path) or may_hold_definitions(path)):
                    continue
                seen += 1
                if seen > MOST_ENTRIES:
                    raise _TooMany(f"the folders with definitions have more than {MOST_ENTRIES} files and folders")
                entries.append((path, entry))
        for path, entry in sorted(entries, key=lambda one: one[0]):
            if entry.is_dir(follow_symlinks=False):
                folders.append(path)
            elif kind_of(path) or (entry.is_symlink() and not _leads_to_file(entry)):
                yield path, entry


def _leads_to_file(link: os.DirEntry[str]) -> bool:
    try:
        return link.is_file()
    except OSError:  # A circle of links.
        return False


def _read(root: Path, path: str, entry: os.DirEntry[str], repository: Repository) -> None:
    shown = path.encode("utf-8", "backslashreplace").decode()
    problems = repository.problems
    if not _PATH.fullmatch(path) or len(path) > _MOST_PATH:
        problems.append(
            rules.FILE_NAME.problem(
                shown,
                1,
                f"the path {shown!r} has other characters than letters, digits, '_', '-' and '.', or is longer than "
                f"{_MOST_PATH}",
                "Rename the file.",
            )
        )
        return
    try:
        content = _content(root, entry)
    except _Refused as fault:
        problems.append(fault.rule.problem(path, 1, fault.message, fault.hint))
        return
    text = _text(path, content, problems)
    if text is None:
        repository.unread[path] = content.decode("utf-8", "replace")
        return
    repository.characters += len(text)
    if repository.characters > MOST_BYTES:
        raise _TooMany(f"the definitions are larger than {MOST_BYTES} bytes together")
    if is_yaml(path):
        repository.yaml_characters += len(text)
        if repository.yaml_characters > MOST_YAML_BYTES:
            raise _TooMany(f"the YAML files are larger than {MOST_YAML_BYTES} bytes together")
        try:
            read_yaml(text)
        except InvalidYaml as fault:
            problems.append(rules.BY_NAME[fault.rule].problem(path, fault.line, str(fault)))
            repository.unread[path] = text
            return
    repository.files[path] = text


def _content(root: Path, entry: os.DirEntry[str]) -> bytes:
    file = _target(root, entry) if entry.is_symlink() else Path(entry.path)
    try:
        # Should somebody swap what was looked at a moment ago: no link is followed, and a pipe does not block.
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as fault:
        raise _Refused(rules.FILE_KIND, f"the file cannot be read: {fault.strerror}", "Take it away.") from fault
    with os.fdopen(descriptor, "rb") as opened:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _Refused(rules.FILE_KIND, "this is no plain file", "Take it away.")
        content = opened.read(MOST_FILE_BYTES + 1)
    if len(content) > MOST_FILE_BYTES:
        raise _Refused(
            rules.FILE_SIZE,
            f"the file is larger than {MOST_FILE_BYTES} bytes",
            "Split it; data belongs into tables, not into files.",
        )
    return content


def _target(root: Path, link: os.DirEntry[str]) -> Path:
    try:
        file = Path(link.path).resolve(strict=True)
    except (OSError, RuntimeError) as fault:
        raise _Refused(rules.FILE_KIND, "the link leads nowhere", "Put a copy of the file here.") from fault
    if not file.is_relative_to(root.resolve()):
        raise _Refused(
            rules.FILE_KIND, "the link leads out of the repository", "Put a copy of the file into the repository."
        )
    if not file.is_file():
        raise _Refused(rules.FILE_KIND, "the link does not lead to a file", "Put the files here.")
    return file


def _text(path: str, content: bytes, problems: list[Problem]) -> str | None:
    """The file as text with line feeds at the ends of lines; None where it is none."""
    try:
        text = content.decode("utf-8").removeprefix(_BOM)
    except UnicodeDecodeError as fault:
        line = content.count(b"\n", 0, fault.start) + 1
        problems.append(
            rules.FILE_TEXT.problem(path, line, "the file is not UTF-8 text", "Save it as UTF-8, or take it away.")
        )
        return None
    if control := _CONTROL.search(text):
        line = text.count("\n", 0, control.start()) + 1
        character = f"U+{ord(control[0]):04X}"
        problems.append(
            rules.FILE_TEXT.problem(path, line, f"the file has the control character {character}", "Take it out.")
        )
        return None
    if "\r" in text:
        line = text.count("\n", 0, text.index("\r")) + 1
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        problems.append(
            rules.FILE_LINE_ENDS.problem(
                path, line, "lines end in carriage returns, which are read as line feeds", "Save it with line feeds."
            )
        )
    if not text.strip():
        problems.append(rules.FILE_EMPTY.problem(path, 1, "the file is empty", "Take it away, or fill it."))
        return None
    return text


def _find_case_clashes(repository: Repository) -> None:
    known: dict[str, str] = {}
    for path in sorted(repository.files):
        first = known.setdefault(path.casefold(), path)
        if first != path:
            repository.problems.append(
                rules.FILE_CASE.problem(
                    path,
                    1,
                    f"the path differs from {first} only in case, which many systems cannot tell apart",
                    "Rename one of them.",
                )
            )
