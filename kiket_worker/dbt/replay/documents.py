"""What dbt writes of a run, written of a replay: run results, manifest and log, as dbt of the recorded version has it.

Formats: https://schemas.getdbt.com/dbt/run-results/v6.json, https://schemas.getdbt.com/dbt/manifest/v12.json, and dbt's
structured log (https://docs.getdbt.com/reference/events-logging).
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from kiket_worker.dbt.log import DbtLog
from kiket_worker.dbt.replay.compiled import Compiled
from kiket_worker.dbt.replay.holes import deep_filled, filled
from kiket_worker.dbt.replay.replayer import NodeRun

_THREAD = "Thread-1 (worker)"
_WIDTH = 80  # dbt's printer_width
_STARTS = {"LogStartLine", "LogHookStartLine"}
_RESULTS = {"LogModelResult", "LogTestResult", "LogSeedResult", "LogSnapshotResult", "LogHookEndLine"}
_STATUS_COUNTED = {"error": "error", "fail": "error", "skipped": "skip", "warn": "warn"}


class Documents:
    """The documents of one replay. `values` fill the tenant's holes; times are in UTC."""

    def __init__(
        self,
        compiled: Compiled,
        values: Mapping[str, str],
        runs: Sequence[NodeRun],
        *,
        variables: Mapping[str, int | str],
        invocation_id: str,
        started_at: datetime,
        ended_at: datetime,
        full_refresh: bool,
    ) -> None:
        self._compiled = compiled
        self._runs = runs
        self._variables = variables
        self._started_at = started_at
        self._ended_at = ended_at
        self._state = "full" if full_refresh else "existing"
        self._values = dict(values) | {
            "invocation": invocation_id,
            "started_at": str(started_at),
            "started_at_iso": str(started_at).replace(" ", "T"),
            "generated_at": _time(ended_at),
            "invocation_started_at": _time(started_at),
        }

    def write(self, target: Path, log: DbtLog) -> None:
        """Write `manifest.json` and `run_results.json` into a folder, and the events to the log."""
        target.mkdir(parents=True, exist_ok=True)
        (target / "manifest.json").write_text(self.manifest(), encoding="utf-8")
        (target / "run_results.json").write_text(json.dumps(self.run_results()), encoding="utf-8")
        for event in self.log_events():
            log.add(event)

    def manifest(self) -> str:
        """The manifest, with the code that was replayed."""
        codes = {node.unique_id: node.traces[0].compiled_code or "" for node in self._compiled.nodes}
        filled_codes = {unique_id: filled(code, _Lenient(self._values)) for unique_id, code in codes.items()}
        filled_codes |= {run.node.unique_id: run.compiled_code for run in self._runs if run.compiled_code is not None}
        inside = {f"compiled:{unique_id}": json.dumps(code)[1:-1] for unique_id, code in filled_codes.items()}
        return filled(self._compiled.manifests[self._state], self._values | inside)

    def run_results(self) -> dict[str, Any]:
        """The run results."""
        document: dict[str, Any] = json.loads(filled(self._compiled.run_results[self._state], self._values))
        document["metadata"]["generated_at"] = _time(self._ended_at)
        document["metadata"]["invocation_started_at"] = _time(self._started_at)
        document["args"]["vars"] = dict(self._variables)
        document["results"] = [self._result(run) for run in self._runs]
        document["elapsed_time"] = (self._ended_at - self._started_at).total_seconds()
        return document

    def _result(self, run: NodeRun) -> dict[str, Any]:
        skipped = run.status == "skipped"
        is_hook = run.node.resource_type == "operation"
        recorded = run.node.traces[0].result
        times = [("compile", run.started_at, run.started_at), ("execute", run.started_at, run.ended_at)]
        return {
            "status": run.status,
            "timing": [
                {"name": name, "started_at": _time(begun), "completed_at": _time(ended)}
                for name, begun, ended in ([] if skipped else times)
            ],
            "thread_id": "main" if is_hook else _THREAD,
            "execution_time": 0 if skipped else run.seconds,
            "adapter_response": run.response or {},
            "message": run.message,
            "failures": run.failures,
            "unique_id": run.node.unique_id,
            "compiled": False if skipped else recorded["compiled"],
            "compiled_code": "" if skipped else run.compiled_code,
            "relation_name": deep_filled(recorded["relation_name"], self._values),
            "batch_results": None,
        }

    def log_events(self) -> Iterator[dict[str, Any]]:
        """The lines of the log, as JSON."""
        runs = {run.node.unique_id: run for run in self._runs}
        for event in self._recorded_log():
            info, data = event["info"], event["data"]
            info["pid"] = os.getpid()
            run = runs.get((data.get("node_info") or {}).get("unique_id", ""))
            name = info["name"]
            if run is not None and (name in _STARTS or name in _RESULTS):
                yield from self._of_node(event, run)
                continue
            info["ts"] = _time(self._ended_at if name in {"FinishedRunningStats", "StatsLine"} else self._started_at)
            if name == "FinishedRunningStats":
                self._finish(event)
            elif name == "EndOfRunSummary":
                info["ts"] = _time(self._ended_at)
                yield self._summary(event)
                yield from self._failures(event)
                continue
            elif name == "StatsLine":
                self._count(event)
            yield event

    def _recorded_log(self) -> Iterator[dict[str, Any]]:
        for line in self._compiled.log:
            yield json.loads(filled(line, self._values))

    def _of_node(self, event: dict[str, Any], run: NodeRun) -> Iterator[dict[str, Any]]:
        info, data = event["info"], event["data"]
        info["thread"] = "MainThread" if run.node.resource_type == "operation" else _THREAD
        node = data["node_info"]
        node["node_started_at"] = _time(run.started_at).removesuffix("Z")
        is_result = info["name"] in _RESULTS
        if run.status == "skipped":
            if not is_result:
                yield self._skipped(event, run)
            return
        if not is_result:
            info["ts"] = _time(run.started_at)
            info["msg"] = _line(_described(info["msg"]), "RUN")
            yield event
            return
        info["ts"] = _time(run.ended_at)
        node["node_finished_at"] = _time(run.ended_at).removesuffix("Z")
        node["node_status"] = run.status
        data["execution_time"] = run.seconds
        described, status = _described(info["msg"]), _bracketed(info["msg"])
        if run.node.resource_type in {"test", "unit_test"}:
            data["status"], data["num_failures"] = run.status, run.failures or 0
            described = re.sub(r"(PASS|WARN \d+|FAIL \d+|ERROR) ", "", described, count=1)
            counted = run.status.upper() + (f" {run.failures}" if run.status in {"warn", "fail"} else "")
            position, _, rest = described.partition(" of ")
            total, _, name = rest.partition(" ")
            described, status = f"{position} of {total} {counted} {name}", counted
            info["level"] = {"pass": "info", "warn": "warn"}.get(run.status, "error")
        elif run.status == "error":
            described = described.replace("OK created", "ERROR creating").replace("OK loaded", "ERROR loading")
            data["status"], status, info["level"] = "error", "ERROR", "error"
        elif run.node.resource_type == "model":
            data["status"] = status = run.message or status
        info["msg"] = _line(described, f"{status} in {run.seconds:0.2f}s")
        yield event

    def _skipped(self, event: dict[str, Any], run: NodeRun) -> dict[str, Any]:
        info, data = event["info"], event["data"]
        node, schema = data["node_info"], data["node_info"]["node_relation"]["schema"]
        info |= {"name": "SkippingDetails", "code": "Q034", "ts": _time(run.started_at)}
        node["node_status"] = "skipped"
        about = (
            f"relation {schema}.{node['node_relation']['alias']}"
            if run.node.relation
            else f"{run.node.resource_type} {run.node.name}"
        )
        info["msg"] = _line(f"{data['index']} of {data['total']} SKIP {about}", "SKIP")
        event["data"] = {
            "index": data["index"],
            "total": data["total"],
            "node_info": node,
            "node_name": run.node.name,
            "resource_type": run.node.resource_type,
            "schema": schema,
        }
        return event

    def _finish(self, event: dict[str, Any]) -> None:
        seconds = (self._ended_at - self._started_at).total_seconds()
        words = f" in {int(seconds // 3600)} hours {int(seconds % 3600 // 60)} minutes and {seconds % 60:0.2f} seconds"
        event["data"] |= {"execution": words, "execution_time": seconds}
        event["info"]["msg"] = f"Finished running {event['data']['stat_line']}{words} ({seconds:0.2f}s)."

    def _counts(self) -> dict[str, int]:
        counts = {"error": 0, "noop": 0, "pass": 0, "skip": 0, "warn": 0}
        for run in self._runs:
            counts[_STATUS_COUNTED.get(run.status, "pass")] += 1
        return counts | {"total": len(self._runs)}

    def _count(self, event: dict[str, Any]) -> None:
        counts = self._counts()
        event["data"]["stats"] = counts
        event["info"]["msg"] = (
            f"Done. PASS={counts['pass']} WARN={counts['warn']} ERROR={counts['error']} SKIP={counts['skip']}"
            f" NO-OP=0 TOTAL={counts['total']}"
        )

    def _summary(self, event: dict[str, Any]) -> dict[str, Any]:
        counts = self._counts()
        errors, warnings = counts["error"], counts["warn"]
        event["data"] |= {"num_errors": errors, "num_warnings": warnings}
        counted = [f"{n} {what}{'' if n == 1 else 's'}" for n, what in ((errors, "error"), (warnings, "warning"))]
        if errors:
            event["info"]["msg"] = f"Completed with {counted[0]}, 0 partial successes, and {counted[1]}:"
        elif warnings:
            event["info"]["msg"] = f"Completed with {counted[1]}:"
        else:
            event["info"]["msg"] = "Completed successfully"
        return event

    def _failures(self, like: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """What dbt says in the end of the nodes that failed, then of those that warned (`print_run_result_error`)."""
        infos = {
            info["unique_id"]: info
            for event in self._recorded_log()
            if isinstance(info := event["data"].get("node_info"), dict)
        }
        for statuses in ({"error", "fail"}, {"warn"}):
            for run in self._runs:
                if run.status in statuses:
                    yield from self._failure(run, like, infos.get(run.node.unique_id, {}))

    def _failure(self, run: NodeRun, like: dict[str, Any], known: dict[str, Any]) -> Iterator[dict[str, Any]]:
        node, is_warning = run.node, run.status == "warn"
        about = known | {"node_started_at": "", "node_finished_at": "", "node_status": "None"}
        level = "warn" if is_warning else "error"

        def told(name: str, code: str, words: str, level: str, **data: Any) -> dict[str, Any]:
            return {"info": like["info"] | {"name": name, "code": code, "level": level, "msg": words}, "data": data}

        yield told("Formatting", "Z017", "", "info", msg="")
        named = {"node_name": node.name, "path": node.file, "resource_type": node.resource_type, "node_info": about}
        where = f"in {node.resource_type} {node.name} ({node.file})"
        message = str(run.message)
        if is_warning:
            yield told("RunResultWarning", "Z021", f"Warning {where}", level, **named)
            yield told("RunResultWarningMessage", "Z046", message, level, msg=message, node_info=about)
        else:
            yield told("RunResultFailure", "Z022", f"Failure {where}", level, **named)
            yield told("RunResultError", "Z024", f"  {message}", level, msg=message, node_info=about)
        if run.compiled_code is not None:
            inside = f"{node.file}/{node.name}.sql" if node.file.endswith((".yml", ".yaml")) else node.file
            path = f"{self._values['workdir']}/target/compiled/{node.unique_id.split('.')[1]}/{inside}"
            yield told("Formatting", "Z017", "", "info", msg="")
            yield told("SQLCompiledPath", "Z026", f"  compiled code at {path}", "info", path=path, node_info=about)


def _line(words: str, status: str) -> str:
    """As dbt writes a line of progress (`format_fancy_output_line`)."""
    return f"{f'{words} '.ljust(_WIDTH, '.')} [{status}]"


def _described(message: str) -> str:
    return re.sub(r" \.*\s*\[[^\[\]]*\]$", "", message)


def _bracketed(message: str) -> str:
    found = re.search(r"\[([^\[\]]*?)(?: in [\d.]+s)?\]$", message)
    return found[1] if found else "OK"


class _Lenient(dict[str, str]):
    """Fills what a code has holes for and nobody asks for afterwards: the time in the name of a temporary relation."""

    def __missing__(self, name: str) -> str:
        return ""


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
