"""docs/definition-rules.md: every rule with its wrong and its right example, from the rules and the examples' files."""

from collections.abc import Iterator
from pathlib import Path

from kiket_worker.definitions import rules
from kiket_worker.definitions.problem import Rule
from tests.support.definitions import EXAMPLES

PAGE = Path(__file__).parents[2] / rules.PAGE

_HEAD = """# Rules of definition repositories

`kiket-worker definitions validate PATH` tells each problem with the name of its rule; this page explains them. An
error keeps a repository from being published, a warning does not. The page is made by `make contracts` from the rules
and from the example repositories under `tests/repositories/rules`, which the tests validate: each wrong example breaks
its rule, each right one breaks none.

What is allowed in Jinja of overlays: `ref`, `source`, `var`, `this`, `is_incremental()`, `config(…)`, `target`,
`model.name` and the like, `execute`, `run_started_at`, `invocation_id`, `exceptions`, `return`, `log`, `tojson`,
`fromjson`, `doc`, what Jinja has itself, macros of the overlay, those of the core project that print (`tenant_filter`,
`current_day`, `organization_schema`, `shared_schema`), and dbt's
[cross-database macros](https://docs.getdbt.com/reference/dbt-jinja-functions/cross-database-macros), also by `dbt.`.
"""
# Their examples would be many files, or large ones, or none that a repository can hold.
_IN_WORDS = {
    "repository-size": ("A folder with 201 models.", "Two repositories with a hundred models each, under two names."),
    "file-kind": (
        "`ln -s ~/shared/sums.sql analytics/dbt/models/sums.sql`",
        "`cp ~/shared/sums.sql analytics/dbt/models/sums.sql`",
    ),
    "file-size": ("A seed of 300 KiB.", "A table of the platform, read as a source."),
    "sql-size": (
        "`{% for n in range(60000) %}{{ n }} as c{{ n }}, {% endfor %}`: 700 KB of SQL.",
        "A model that joins a seed.",
    ),
    "parse-limit": (
        "`{% for a in range(99999) %}{% for b in range(99999) %}…`: ten thousand million rounds.",
        "`{% for status in ['done', 'blocked'] %}…`: two rounds.",
    ),
}
_LANGUAGES = {".sql": "sql", ".yml": "yaml", ".yaml": "yaml", ".csv": "text"}


def page() -> str:
    """The whole page."""
    listed = [f"| [{rule.name}](#{rule.name}) | {rule.severity} | {rule.title} |" for rule in rules.RULES]
    parts = [_HEAD, "| rule | severity | what it wants |", "| --- | --- | --- |", *listed, ""]
    for rule in rules.RULES:
        parts += _entry(rule)
    return "\n".join(parts)


def _entry(rule: Rule) -> Iterator[str]:
    yield f"## {rule.name}\n"
    yield f"**{rule.title}** ({rule.severity}). {rule.why}\n"
    for side in ("wrong", "right"):
        if rule.name in _IN_WORDS:
            yield f"{side.capitalize()}: {_IN_WORDS[rule.name][side == 'right']}\n"
            continue
        folder = EXAMPLES / "rules" / rule.name / side
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            yield f"{side.capitalize()}, `{file.relative_to(folder)}`:\n"
            yield f"```{_LANGUAGES[file.suffix]}\n{_shown(file)}\n```\n"


def _shown(file: Path) -> str:
    text = file.read_bytes().decode("utf-8", "backslashreplace").replace("\r\n", "␍\n").rstrip("\n")
    lines = text.splitlines()
    return "\n".join(lines if len(lines) <= 40 else [*lines[:40], f"… and {len(lines) - 40} lines more"])


def main() -> None:
    """Write it."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
