"""The policy on dbt's configuration: how a model is built, and never where or for whom."""

from collections.abc import Sequence
from typing import Any

from kiket_worker.definitions import rules
from kiket_worker.definitions.problem import Problem

MATERIALIZATIONS = frozenset(["view", "table", "incremental", "ephemeral"])
# The core project's own tag, which takes a model out of an organisation's build.
SHARED_TAG = "shared"
_STRATEGIES = frozenset(["append", "delete+insert", "merge", "differences"])
_HOOKS = frozenset(["pre_hook", "post_hook", "on_run_start", "on_run_end", "sql_header"])
_KEYS = frozenset(
    [
        *("materialized", "tags", "indexes", "unique_key", "incremental_strategy", "incremental_predicates"),
        *("on_schema_change", "contract", "description", "meta", "enabled", "docs", "persist_docs", "unlogged"),
        *("full_refresh", "column_types", "quote_columns", "delimiter", "merge_update_columns", "group", "access"),
        # Of sources.
        *("freshness", "loaded_at_field", "event_time"),
        # Of tests.
        *("severity", "warn_if", "error_if", "where", "limit", "fail_calc"),
    ]
)


def check_config(file: str, key: str, values: Sequence[Any], line: int) -> list[Problem]:
    """What is wrong with one key; `values` are the constants that it is given, as far as they are known."""
    name = key.removeprefix("+").replace("-", "_")
    if name in _HOOKS:
        return [rules.HOOK.problem(file, line, f"{key} runs a statement beside the model", "Take it away.")]
    if name not in _KEYS:
        message = f"the configuration {key!r} is not among what overlays may set"
        return [rules.CONFIG_KEY.problem(file, line, message, "Take it away.")]
    texts = sorted({value for value in values if isinstance(value, str)})
    return [problem for text in texts for problem in _check_value(file, name, text, line)]


def _check_value(file: str, name: str, text: str, line: int) -> list[Problem]:
    if name == "materialized" and text not in MATERIALIZATIONS:
        hint = f"There are {', '.join(sorted(MATERIALIZATIONS))}."
        return [rules.MATERIALIZATION.problem(file, line, f"the materialisation {text!r} is not run", hint)]
    if name == "incremental_strategy" and text not in _STRATEGIES:
        hint = f"There are {', '.join(sorted(_STRATEGIES))}."
        return [rules.CONFIG_KEY.problem(file, line, f"there is no incremental strategy {text!r}", hint)]
    if name == "tags" and text == SHARED_TAG:
        message = f"the tag {SHARED_TAG!r} is the core project's: its models are built for all organisations"
        return [rules.CONFIG_KEY.problem(file, line, message, "Rename it.")]
    if "\\" in text or "}}" in text or "%}" in text:
        # dbt writes a test's configuration into a template, and escapes quotation marks only.
        return [rules.CONFIG_KEY.problem(file, line, f"{name} has characters that would end the text it is put into")]
    return []
