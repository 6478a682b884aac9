"""A Dockerfile read into its stages, and what of a tree its build gets."""

import fnmatch
import json
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import kiket_worker

ROOT = Path(kiket_worker.__file__).parent.parent
DOCKERFILE = ROOT / "deploy" / "Dockerfile"


@dataclass(frozen=True)
class Instruction:
    """One instruction, its continued lines joined. `flags` are those of the form `--name=value`."""

    name: str
    flags: dict[str, str]
    text: str

    @property
    def words(self) -> list[str]:
        """The arguments: of the exec form the list's items."""
        return json.loads(self.text) if self.text.startswith("[") else self.text.split()


@dataclass(frozen=True)
class Stage:
    """What follows one FROM."""

    base: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, name: str) -> list[Instruction]:
        return [one for one in self.instructions if one.name == name]

    def last(self, name: str) -> Instruction:
        return self.all(name)[-1]

    @property
    def environment(self) -> dict[str, str]:
        return {
            name: value.strip('"')
            for one in self.all("ENV")
            for name, value in re.findall(r'(\w+)=("[^"]*"|\S+)', one.text)
        }


def stages(text: str) -> list[Stage]:
    """The stages in order. Raises `ValueError` for what is no instruction."""
    found: list[Stage] = []
    for line in _logical_lines(text):
        name, _, rest = line.partition(" ")
        if name not in _KNOWN:
            raise ValueError(f"no instruction: {line}")
        flags, rest = _flags(name, rest.strip())
        if name == "FROM":
            base, _, alias = rest.partition(" AS ")
            found.append(Stage(base, alias))
        elif found:
            found[-1].instructions.append(Instruction(name, flags, rest))
    return found


_KNOWN = {
    *("ARG", "FROM", "WORKDIR", "COPY", "RUN", "LABEL", "ENV", "USER", "EXPOSE", "HEALTHCHECK", "STOPSIGNAL"),
    *("ENTRYPOINT", "CMD"),
}


def _logical_lines(text: str) -> list[str]:
    lines, continued = [], ""
    for line in text.splitlines():
        if line.lstrip().startswith("#") or not line.strip():
            continue  # Within a continued instruction as well, as Docker reads it.
        continued += line.strip() if not continued else " " + line.strip()
        if continued.endswith("\\"):
            continued = continued[:-1].rstrip()
            continue
        lines.append(continued)
        continued = ""
    if continued:
        raise ValueError(f"the last instruction is not ended: {continued}")
    return lines


def _flags(name: str, text: str) -> tuple[dict[str, str], str]:
    flags = {}
    while name in {"COPY", "HEALTHCHECK", "RUN"} and (match := re.match(r"--([a-z-]+)=(\S+)\s+", text)):
        flags[match[1]] = match[2]
        text = text[match.end() :]
    return flags, text


def context(ignored: str, source: Path, target: Path) -> None:
    """Copy to `target` what of a tree reaches the build, by the text of its .dockerignore: the last match decides."""
    rules = [line for line in ignored.splitlines() if line and not line.startswith("#")]
    for folder, folders, files in os.walk(source):
        folders[:] = [one for one in folders if one not in {".git", ".venv"}]  # Large, and nobody's subject.
        for name in (Path(folder, file).relative_to(source) for file in files):
            if not _is_ignored(name, rules):
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source / name, target / name)


def _is_ignored(name: Path, rules: list[str]) -> bool:
    ignored = False
    for rule in rules:
        pattern = rule.removeprefix("!")
        if any(_matches(part, pattern) for part in (name, *name.parents)):
            ignored = not rule.startswith("!")
    return ignored


def _matches(name: Path, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatch.fnmatchcase(name.name, pattern[3:])
    parts = pattern.split("/")
    return len(parts) == len(name.parts) and all(map(fnmatch.fnmatchcase, name.parts, parts))
