"""What happened when in a run: attempts, the steps of the last one, and models, as bars on one scale of time."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from kiket_worker.ledger.runs import Run, RunAttempt, RunModel

# Units of the drawing across the whole time.
WIDTH = 1000
_LEAST_WIDTH = 3
_TICKS = 5


@dataclass(frozen=True)
class Bar:
    """One thing that took time: `kind` is waiting, attempt, step or model. `offset_seconds` is from the chart's start.

    `x` and `width` are where it is drawn.
    """

    kind: str
    name: str
    status: str
    offset_seconds: float
    duration_seconds: float
    x: float
    width: float
    goes_on: bool


@dataclass(frozen=True)
class Timeline:
    """The bars in the order of their beginnings within each kind, and where on the scale which second stands."""

    start: datetime
    seconds: float
    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class _Span:
    kind: str
    name: str
    status: str
    start: datetime
    end: datetime | None


def timeline_of(run: Run, attempts: Sequence[RunAttempt], models: Sequence[RunModel], now: datetime) -> Timeline:
    """The chart of a run, of which some may go on. Clocks may differ: nothing is shorter than nothing."""
    spans = [*_attempts(run, attempts), *_steps(run), *_models(models)]
    ends = [_end(span, now) for span in spans]
    start = min((span.start for span in spans), default=run.queued_at)
    seconds = max(*((end - start).total_seconds() for end in ends), 0.001)
    bars = [_bar(span, end, start, seconds) for span, end in zip(spans, ends, strict=True)]
    return Timeline(start, seconds, tuple(bars), tuple(_ticks(seconds)))


def _attempts(run: Run, attempts: Sequence[RunAttempt]) -> Iterator[_Span]:
    first = attempts[0].started_at if attempts else None
    status = "queued" if first is None and not run.status.has_ended else "waited"
    yield _Span("waiting", "in the queue", status, run.queued_at, first or run.finished_at)
    for attempt in attempts:
        name = f"attempt {attempt.attempt}"
        yield _Span("attempt", name, attempt.outcome or "running", attempt.started_at, attempt.finished_at)


def _steps(run: Run) -> Iterator[_Span]:
    """The steps of the last attempt. Each begins where the one before ends."""
    start = run.started_at
    for name, end in (("build", run.built_at), ("archive", run.archived_at), ("record", run.finished_at)):
        if start is None:
            return
        if end is None or end < start:  # It goes on, or ended the run; a moment before is an earlier attempt's.
            is_over = run.status.has_ended
            yield _Span("step", name, str(run.status), start, run.finished_at if is_over else None)
            return
        yield _Span("step", name, "success", start, end)
        start = end


def _models(models: Sequence[RunModel]) -> Iterator[_Span]:
    begun = [(model.started_at, model) for model in models if model.started_at is not None]
    for started_at, model in sorted(begun, key=lambda pair: (pair[0], pair[1].model_id)):
        end = None
        if model.duration_seconds is not None:
            end = started_at + timedelta(seconds=model.duration_seconds)
        elif model.status != "running":
            end = started_at
        yield _Span("model", model.model_id.rpartition(".")[2], model.status, started_at, end)


def _end(span: _Span, now: datetime) -> datetime:
    return max(span.start, now if span.end is None else span.end)


def _bar(span: _Span, end: datetime, start: datetime, seconds: float) -> Bar:
    offset, duration = (span.start - start).total_seconds(), (end - span.start).total_seconds()
    width = max(WIDTH * duration / seconds, _LEAST_WIDTH)
    x = min(WIDTH * offset / seconds, WIDTH - width)
    return Bar(
        span.kind, span.name, span.status, offset, duration, round(max(x, 0), 1), round(width, 1), span.end is None
    )


def _ticks(seconds: float) -> Iterator[tuple[float, float]]:
    """Round numbers of seconds, a few, each with its place."""
    rough = seconds / _TICKS
    scale = 10 ** math.floor(math.log10(rough))
    step = next((scale * factor for factor in (1, 2, 5) if scale * factor >= rough), scale * 10)
    for number in range(int(seconds / step) + 1):
        yield round(number * step, 6), round(WIDTH * number * step / seconds, 1)
