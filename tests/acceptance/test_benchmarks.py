"""The benchmarks run and give what readers of `build/bench.json` rely on; how fast a machine is, is not tested."""

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from benchmarks.console import QUERIES, REQUESTS
from tests.support import warm_dbt

REPOSITORY = Path(__file__).parents[2]

# By benchmark: the figures and their units.
FIGURES = {
    "console": {f"{name}_ratio": "ratio" for name in (*REQUESTS, *QUERIES)}
    | {"refresh_writes_ratio": "ratio", "overview_look_seconds": "s"},
    "definitions": {"validation_ratio": "ratio", "validation_seconds": "s"},
    "queue": {
        "publish_to_claimed_per_second": "1/s",
        "manual_start_seconds_p50_idle": "s",
        "manual_start_seconds_p99_idle": "s",
        "manual_start_seconds_p50_backlog": "s",
        "manual_start_seconds_p99_backlog": "s",
        "two_workers_speedup": "ratio",
        "recovery_after_sigkill_seconds": "s",
    },
    "ticker": {
        "ticker_queue_ratio": "ratio",
        "ticker_tick_ratio": "ratio",
        "ticker_memory_ratio": "ratio",
        "backlog_ratio": "ratio",
    },
    "isolation": {
        "provisioning_ratio": "ratio",
        "provisioning_again_ratio": "ratio",
        "drift_query_ratio": "ratio",
        "gate_aggregate_ratio": "ratio",
        "gate_bare_aggregate_ratio": "ratio",
        "gate_incremental_ratio": "ratio",
        "gate_join_ratio": "ratio",
        "gate_short_join_ratio": "ratio",
        "connect_ratio": "ratio",
        "connect_ratio_usual_password": "ratio",
        "refresh_wall_ratio": "ratio",
        "refresh_cpu_ratio": "ratio",
    },
    "replay": {
        "build_cpu_ratio": "ratio",
        "build_wall_ratio": "ratio",
        "pipeline_cpu_ratio": "ratio",
        "pipeline_wall_ratio": "ratio",
        "dbt_cpu_ratio": "ratio",
        "dbt_wall_ratio": "ratio",
        "reader_errors": "errors",
        "reader_stall_ms": "ms",
        "reader_stall_beside_slow_reader_ms": "ms",
        "memory_mb_per_refresh": "MB",
        "stored_bytes_per_run": "bytes",
        "stored_files_per_run": "files",
    },
    "scale": {
        "many_schemas_cpu_ratio": "ratio",
        "many_schemas_wall_ratio": "ratio",
        "refresh_cpu_seconds_client": "s",
        "refresh_cpu_seconds_server": "s",
        "service_seconds_replay": "s",
        "service_seconds_dbt": "s",
        "herd_enterprise_lag_share_replay": "ratio",
        "herd_overtaken_replay": "runs",
        "herd_enterprise_lag_share_dbt": "ratio",
        "herd_overtaken_dbt": "runs",
        "sizing_after_outage_ratio": "ratio",
        "sizing_hour_ratio": "ratio",
    }
    | {
        f"lag_p99_{situation}_{plan}_{engine}": "s"
        for situation in ("hour", "outage")
        for plan in ("starter", "team", "business", "enterprise")
        for engine in ("replay", "dbt")
    },
    "workers": {
        "cpu_bound_speedup": "ratio",
        "threads_speedup": "ratio",
        "postgres_cpu_share": "ratio",
        "machine_speedup": "ratio",
        "speedup_against_machine": "ratio",
    },
    "soak": {
        "memory_growth_share": "ratio",
        "memory_growth_probability": "ratio",
        "descriptors_spread": "files",
        "temporary_files_left": "files",
    },
}
WITH_TARGET = {
    "console": {f"{name}_ratio" for name in (*REQUESTS, *QUERIES)},
    "ticker": {"ticker_queue_ratio", "ticker_tick_ratio", "ticker_memory_ratio", "backlog_ratio"},
    "queue": {"manual_start_seconds_p99_backlog", "two_workers_speedup", "recovery_after_sigkill_seconds"},
    "isolation": {
        *("provisioning_ratio", "gate_aggregate_ratio", "gate_incremental_ratio", "gate_join_ratio", "connect_ratio"),
        *("refresh_wall_ratio", "refresh_cpu_ratio"),
    },
    "definitions": {"validation_ratio"},
    "replay": {
        *("build_cpu_ratio", "build_wall_ratio", "pipeline_cpu_ratio", "pipeline_wall_ratio", "dbt_cpu_ratio"),
        *("reader_errors", "reader_stall_ms", "reader_stall_beside_slow_reader_ms", "memory_mb_per_refresh"),
    },
    "scale": {
        *("many_schemas_cpu_ratio", "many_schemas_wall_ratio"),
        *("herd_enterprise_lag_share_replay", "herd_overtaken_replay"),
        *("herd_enterprise_lag_share_dbt", "herd_overtaken_dbt"),
        *("sizing_after_outage_ratio", "sizing_hour_ratio"),
    },
    "workers": {"cpu_bound_speedup", "speedup_against_machine"},
    "soak": {"memory_growth_share", "descriptors_spread", "temporary_files_left"},
}
# Those of one process share services (`warm_benchmarks`). One that fails keeps those behind it from running.
SHARING = (("queue", "ticker", "workers", "soak"), ("replay", "scale"))
GROUPS = (*SHARING, *((name,) for name in FIGURES if name not in chain(*SHARING)))


def benchmarks(*arguments: object, module: str = "benchmarks") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=REPOSITORY,
        env={name: os.environ[name] for name in ("PATH", "HOME", "LANG", warm_dbt.VARIABLE) if name in os.environ},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@dataclass(frozen=True)
class Run:
    """A process of several short forms: how it ended, what it printed, and the file that it was to write."""

    process: subprocess.CompletedProcess[str]
    output: Path

    @property
    def printed(self) -> list[Any]:
        return [json.loads(line) for line in self.process.stdout.splitlines()]


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[tuple[str, ...]], Run]:
    """Gives the run of a group: the first who asks waits for it."""
    warm_dbt.executable()

    @cache
    def run(group: tuple[str, ...]) -> Run:
        output = tmp_path_factory.mktemp("benchmarks") / "build" / "bench.json"
        try:
            process = benchmarks(*group, "--short", "--output", output, module="tests.support.warm_benchmarks")
        except subprocess.TimeoutExpired as late:
            # Not raised, as every test of the group would run it again and wait as long.
            said = (late.stderr or b"").decode(errors="replace")
            process = subprocess.CompletedProcess(late.cmd, -signal.SIGKILL, "", f"{said}\n{late}")
        return Run(process, output)

    return run


@pytest.mark.parametrize("group", GROUPS, ids="-".join)
def test_benchmarks_print_what_they_write(run_of: Callable[[tuple[str, ...]], Run], group: tuple[str, ...]) -> None:
    run = run_of(group)
    assert run.process.returncode == 0, run.process.stderr
    assert [document["benchmark"] for document in run.printed] == list(group)
    assert json.loads(run.output.read_text()) == run.printed


@pytest.mark.parametrize(("group", "name"), [pytest.param(group, name, id=name) for group in GROUPS for name in group])
def test_a_benchmark_gives_its_figures(
    run_of: Callable[[tuple[str, ...]], Run], group: tuple[str, ...], name: str
) -> None:
    run = run_of(group)
    documents = {document["benchmark"]: document for document in run.printed}
    assert name in documents, run.process.stderr
    document = documents[name]

    assert set(document) == {"benchmark", "machine", "figures"}
    assert set(document["machine"]) == {"cores", "memory_gib", "python", "postgres", "rabbitmq"}
    assert all(document["machine"].values())

    figures = document["figures"]
    assert {figure["name"]: figure["unit"] for figure in figures} == FIGURES[name]
    for figure in figures:
        assert set(figure) == {"name", "value", "unit", "target", "holds", "how"}
        assert math.isfinite(figure["value"])
        assert figure["value"] > 0
        assert figure["how"]
        if figure["name"] in WITH_TARGET[name]:
            comparison, limit = figure["target"].split()
            assert comparison in {"<=", ">="}
            assert math.isfinite(float(limit))
            assert isinstance(figure["holds"], bool)
        else:
            assert figure["target"] is None
            assert figure["holds"] is None


@pytest.mark.parametrize("arguments", [["nothing-like-it"], ["queue", "--shorter"]])
def test_wrong_use_of_the_benchmarks_starts_nothing(arguments: list[str]) -> None:
    result = benchmarks(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
