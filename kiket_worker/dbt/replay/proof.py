"""Two recordings of different probes, compared: a bundle is replayable only if dbt did the same for both of them.

Pure: it takes what `recorder` wrote and gives a compiled bundle, or every reason why there is none, with file and line
where one is known.
"""

import json
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kiket_worker.dbt.replay.compiled import Compiled, Node, Step, Trace
from kiket_worker.dbt.replay.holes import INDEX, STAMP, as_json, deep_filled, deep_with_holes, hole
from kiket_worker.dbt.replay.sql import NotReplayable, is_frame
from kiket_worker.dbt.replay.tracing import asks, standard_of, trace_of, tuples

# The states of the probe's schema in which dbt is recorded, in this order; those that are built by a full refresh.
STATES = ("fresh", "existing", "full")
FULL_REFRESH = "full"

_DONE = {"success", "pass", "warn", "fail"}
# What differs from one invocation to the next whatever the tenant. Artifacts get values of their own.
_VOLATILE = {"generated_at", "created_at", "invocation_id", "invocation_started_at", "run_started_at"}
_CODE = {"compiled_code", "extra_ctes", "extra_ctes_injected", "compiled", "build_path", "compiled_path"}
_KINDS = {"r": "table", "p": "table", "v": "view", "m": "materialized_view", "f": "external"}


@dataclass(frozen=True)
class Recording:
    """What `recorder` wrote of one probe, and what it has instead of holes: the probe's names, and folders of dbt's."""

    document: dict[str, Any]
    values: dict[str, str]
    places: dict[str, str]

    def state(self, name: str) -> dict[str, Any]:
        """One state, every text with its holes."""
        state: dict[str, Any] = self.document["states"][name]
        values = dict(self.values)
        if state["run_results"]:
            values["invocation"] = state["run_results"]["metadata"]["invocation_id"]
        if state["started_at"]:
            values["started_at"] = state["started_at"]
            values["started_at_iso"] = state["started_at"].replace(" ", "T")
        return state | {
            "events": deep_with_holes(state["events"], values),
            "definitions": deep_with_holes(state["definitions"], values),
            "manifest": deep_with_holes(state["manifest"], values | self.places),
            "run_results": deep_with_holes(state["run_results"], values | self.places),
            "log": [
                deep_with_holes(json.loads(line), values | self.places) for line in state["log"] if line.startswith("{")
            ],
        }


def prove(first: Recording, second: Recording, *, key: str, versions: dict[str, str]) -> Compiled:
    """The compiled bundle, or one that says why it cannot be replayed. Raises `ProbeFailed`."""
    if failed := list(_ended_badly(first, second)):
        raise ProbeFailed(failed)
    reasons: list[str] = []
    for recording in (first, second):
        reasons += recording.document["inspections"] + recording.document["unknown"]
    if reasons:
        return Compiled(key, versions, tuple(dict.fromkeys(reasons)))
    states = {name: (first.state(name), second.state(name)) for name in STATES}
    reasons += _differences(states)
    reasons += _hooks_with_results(first.document["states"][STATES[0]]["manifest"])
    if not reasons:
        try:
            return _compiled({name: of_first for name, (of_first, _) in states.items()}, key, versions)
        except _Unprovable as fault:
            reasons += fault.reasons
    return Compiled(key, versions, tuple(dict.fromkeys(reasons)))


def differences(compiled: Compiled, state: dict[str, Any], values: Mapping[str, str]) -> list[str]:
    """Where dbt, recorded for an organisation in an empty schema, did something else than would be replayed there.

    `values` fill the holes for that organisation. Where a question of dbt's Jinja had an answer that is not known, dbt
    itself would have run.
    """
    if state["run_results"] is None:
        return []  # dbt could not run at all, which is no word on the replay.
    shown = dict(values) | {INDEX: hole(INDEX), STAMP: hole(STAMP)}
    for result in ("invocation", "started_at", "started_at_iso"):
        shown[result] = hole(result)
    of_run = {"invocation": state["run_results"]["metadata"]["invocation_id"]}
    if state["started_at"]:
        of_run |= {"started_at": state["started_at"], "started_at_iso": state["started_at"].replace(" ", "T")}
    events = _by_node(deep_with_holes(state["events"], of_run))
    found = []
    is_known = True
    for node in compiled.nodes:
        did = [
            _deed(event) for event in events.get(node.unique_id, []) if "sql" in event and not is_frame(event["sql"])
        ]
        ways = [[_planned(step, shown) for step in trace.steps] for trace in node.traces if not trace.full_refresh]
        said = [[text for text, _ in way] for way in ways]
        if did in ways:
            continue
        answered = [text for text, answer in did if answer is not None]
        if answered and any(_asks_alike(did, way) for way in ways):
            is_known = False
            continue
        if [text for text, _ in did] not in said:
            found.append(f"{node.unique_id}: dbt's statements are others")
    if is_known:  # Else an answer that is not known may have made other relations of them.
        definitions = {name: deep_filled(text, shown) for name, text in compiled.definitions.items()}
        found += [
            f"{name}: dbt defines the relation otherwise"
            for name, text in definitions.items()
            if state["definitions"].get(name, text) != text
        ]
    return found


def _deed(event: dict[str, Any]) -> tuple[str, Any]:
    return event["sql"], (tuples(event["columns"]), tuples(event["rows"])) if asks(event) else None


def _planned(step: Step, values: Mapping[str, str]) -> tuple[str, Any]:
    answer = step.answer
    return deep_filled(step.text, values), (
        (answer.columns, deeptuples(answer.rows, values)) if answer is not None else None
    )


def _asks_alike(did: list[tuple[str, Any]], way: list[tuple[str, Any]]) -> bool:
    """Whether both do the same until a question is answered otherwise."""
    for one, other in zip(did, way, strict=False):
        if one[0] != other[0]:
            return False
        if one[1] != other[1]:
            return True
    return False


def deeptuples(rows: Any, values: Mapping[str, str]) -> Any:
    """Rows of an answer with their holes filled."""
    if rows is None:
        return None
    return tuple(tuple(None if value is None else deep_filled(value, values) for value in row) for row in rows)


def _hooks_with_results(manifest: dict[str, Any]) -> Iterator[str]:
    """Hooks that see how the nodes went, which is another thing for each tenant."""
    for unique_id, node in manifest["nodes"].items():
        if unique_id.startswith("operation.") and re.search(r"\bresults\b", node.get("raw_code") or ""):
            yield f"{unique_id}: sees the results of the run"


class _Unprovable(Exception):
    def __init__(self, reasons: list[str]) -> None:
        super().__init__()
        self.reasons = reasons


class ProbeFailed(_Unprovable):
    """dbt did not succeed for a probe, which may have a reason that passes."""


def _ended_badly(*recordings: Recording) -> Iterator[str]:
    for recording in recordings:
        for name in STATES:
            state = recording.document["states"].get(name)
            if state is None:
                continue
            if state["run_results"] is None or state["manifest"] is None:
                words = [json.loads(line)["info"]["msg"] for line in state["log"] if '"level": "error"' in line]
                yield f"dbt did not run for a probe: {' '.join(words) or 'it said nothing'}"
                return
            for result in state["run_results"]["results"]:
                if result["status"] not in _DONE:
                    yield f"{result['unique_id']} ends with {result['status']} for a probe: {result['message']}"


def _differences(states: dict[str, tuple[dict[str, Any], dict[str, Any]]]) -> Iterator[str]:
    for name, (one, other) in states.items():
        of_one, of_other = _by_node(one["events"]), _by_node(other["events"])
        for node in {**of_one, **of_other}:
            if _compared(of_one.get(node)) != _compared(of_other.get(node)):
                where = next(_places(of_one.get(node, []), of_other.get(node, [])), "")
                yield f"{node}: dbt does something else for each of two probes ({name}){where}"
        manifests = [json.dumps(_stripped(state["manifest"]), sort_keys=True) for state in (one, other)]
        if manifests[0] != manifests[1]:
            yield f"the manifests of two probes differ: {_first_difference(*manifests)}"
        if one["definitions"] != other["definitions"]:
            names = sorted(
                relation
                for relation in one["definitions"].keys() | other["definitions"].keys()
                if one["definitions"].get(relation) != other["definitions"].get(relation)
            )
            yield f"the relations of two probes differ: {', '.join(names)}"
        if one["edges"] != other["edges"]:
            yield "the nodes of two probes wait for others each"


def _compared(events: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
    # What a statement counted is no input of dbt's, and its answer to Jinja is compared by itself.
    return None if events is None else [{k: v for k, v in event.items() if k != "status"} for event in events]


def _places(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> Iterator[str]:
    for left, right in zip(one, other, strict=False):
        if left != right and "sql" in left and "sql" in right:
            yield f": {_first_difference(left['sql'], right['sql'])}"


def _first_difference(one: str, other: str) -> str:
    at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    shown = [" ".join(text[max(0, at - 40) : at + 40].split()) for text in (one, other)]
    return f"…{shown[0]}… against …{shown[1]}…".replace("\x01", "{").replace("\x02", "}")


def _by_node(events: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        if event["node"]:
            found.setdefault(event["node"], []).append(event)
    return found


def _compiled(states: dict[str, dict[str, Any]], key: str, versions: dict[str, str]) -> Compiled:
    reasons: list[str] = []
    traces: dict[str, list[Trace]] = {}
    order: list[str] = []
    nodes_of_manifest = states["existing"]["manifest"]["nodes"].values()
    known = {node["alias"] for node in nodes_of_manifest if node.get("relation_name")}
    known |= {event["relation"] for state in states.values() for event in state["events"] if "relation" in event}
    for name in STATES:
        state = states[name]
        results = {result["unique_id"]: result for result in state["run_results"]["results"]}
        events = _by_node(state["events"])
        order += [node for node in results if node not in order]
        if unknown := events.keys() - results.keys():
            reasons += [f"{node}: dbt says nothing of its result" for node in sorted(unknown)]
        for node, result in results.items():
            try:
                trace = trace_of(events.get(node, []), result, known, full_refresh=name == FULL_REFRESH)
            except NotReplayable as fault:
                reasons.append(f"{node}: {fault}")
                continue
            if trace not in traces.setdefault(node, []):
                traces[node].append(trace)
    if reasons:
        raise _Unprovable(reasons)
    existing = states["existing"]
    manifest = existing["manifest"]
    definitions = {
        relation: definition
        for relation, definition in existing["definitions"].items()
        if states["fresh"]["definitions"].get(relation) == definition
    }
    waits_for = _waits_for(existing["edges"], set(order))
    nodes = [
        _node(unique_id, manifest, tuple(traces[unique_id]), waits_for.get(unique_id, ()), definitions)
        for unique_id in order
    ]
    return Compiled(
        key,
        versions,
        nodes=tuple(nodes),
        definitions=definitions,
        kinds={relation: _KINDS[definition[0]] for relation, definition in existing["definitions"].items()},
        manifests={name: _manifest(states[name]["manifest"], traces.keys()) for name in ("existing", FULL_REFRESH)},
        run_results={
            name: as_json(states[name]["run_results"] | {"results": []}) for name in ("existing", FULL_REFRESH)
        },
        # Of the first run of its process, which tells what dbt tells only once.
        log=tuple(map(as_json, states["fresh"]["log"])),
    )


def _node(
    unique_id: str,
    manifest: dict[str, Any],
    traces: tuple[Trace, ...],
    waits_for: tuple[str, ...],
    definitions: Mapping[str, str],
) -> Node:
    known = manifest["nodes"].get(unique_id) or manifest["unit_tests"].get(unique_id) or {}
    config = known.get("config") or {}
    relation = known.get("alias") if known.get("relation_name") else None
    return Node(
        unique_id=unique_id,
        resource_type=unique_id.partition(".")[0],
        name=known.get("name") or unique_id.rpartition(".")[2],
        file=known.get("original_file_path") or "dbt_project.yml",
        relation=relation,
        traces=traces,
        standard=standard_of(relation, config, traces, definitions) if relation else None,
        severity=str(config.get("severity", "error")).lower(),
        error_if=str(config.get("error_if", "!= 0")),
        warn_if=str(config.get("warn_if", "!= 0")),
        waits_for=waits_for,
    )


def _waits_for(edges: Iterable[tuple[str, str]], executed: set[str]) -> dict[str, tuple[str, ...]]:
    """Which executed nodes each one waits for, also through those that are none, as ephemeral models are."""
    above: dict[str, set[str]] = {}
    for upper, lower in edges:
        above.setdefault(lower, set()).add(upper)
    found: dict[str, tuple[str, ...]] = {}
    for node in executed:
        seen: set[str] = set()
        waiting = set(above.get(node, ()))
        while waiting:
            upper = waiting.pop()
            if upper not in seen:
                seen.add(upper)
                if upper not in executed:
                    waiting |= above.get(upper, set())
        found[node] = tuple(sorted(seen & executed))
    return found


def _manifest(manifest: dict[str, Any], executed: Container[str]) -> str:
    """A manifest as JSON, with holes for what each invocation and each trace has of its own."""
    times = {name: hole(name) for name in ("generated_at", "invocation_started_at")}
    nodes = {
        unique_id: node | {"compiled_code": hole(f"compiled:{unique_id}")}
        if unique_id in executed and node.get("compiled_code") is not None
        else node
        for unique_id, node in manifest["nodes"].items()
    }
    return as_json(manifest | {"metadata": manifest["metadata"] | times, "nodes": nodes})


def _stripped(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _stripped(item) for name, item in value.items() if name not in _VOLATILE | _CODE}
    return [_stripped(item) for item in value] if isinstance(value, list) else value
