"""Pages from templates: what is put in is escaped, and times, durations and counts look the same everywhere."""

from datetime import UTC, date, datetime
from decimal import Decimal
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from kiket_worker.console.pages.static import static_url

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_UNITS = ((_DAY, "d", _HOUR, "h"), (_HOUR, "h", _MINUTE, "min"), (_MINUTE, "min", 1, "s"))
_NOTHING = Markup('<span class="nothing">–</span>')


def render(request: Request, template: str, *, status: int = HTTPStatus.OK, **values: Any) -> Response:
    """A page, or a part of one. Templates know the request's `viewer` (None if nobody is signed in) and `csrf`."""
    known = {
        "request": request,
        "viewer": getattr(request.state, "viewer", None),
        "csrf": getattr(request.state, "csrf", ""),
        "path": request.url.path,
    }
    page = _environment.get_template(template).render(known | values)
    return HTMLResponse(page, status, {"Vary": "HX-Request"})


def is_part(request: Request, target: str) -> bool:
    """Whether the page itself asks again for the element with this id, so that the rest need not be made."""
    return request.headers.get("hx-target") == target and "hx-request" in request.headers


def redirect(target: str) -> Response:
    """On to another page of ours, which is asked for anew (303): reloading it repeats no change."""
    return Response(status_code=HTTPStatus.SEE_OTHER, headers={"Location": target})


def duration(seconds: float | Decimal | None) -> str:
    """A duration in two units at most, as `350 ms`, `12.3 s`, `4 min 5 s`, `3 h 12 min` or `2 d 4 h`."""
    if seconds is None:
        return "–"
    seconds = max(0.0, float(seconds))
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds else "0 s"
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    unit, name, part, part_name = next(units for units in _UNITS if seconds >= units[0])
    whole, rest = divmod(int(seconds), unit)
    return f"{whole} {name} {rest // part} {part_name}" if rest // part else f"{whole} {name}"


def moment(value: datetime | None, form: str = "seconds") -> Markup:
    """A moment in UTC as an element that programs can read: to the `seconds` or the `minutes`."""
    if value is None:
        return _NOTHING
    utc = value.astimezone(UTC)
    text = f"{utc:%Y-%m-%d %H:%M}" if form == "minutes" else f"{utc:%Y-%m-%d %H:%M:%S}"
    return Markup('<time datetime="{}">{} UTC</time>').format(utc.isoformat(timespec="seconds"), text)


def ago(value: datetime | None, now: datetime) -> Markup:
    """How long something has been, or is to be, with the moment itself for who points at it."""
    if value is None:
        return _NOTHING
    utc, seconds = value.astimezone(UTC), (now - value).total_seconds()
    whole = round(abs(seconds))
    length = f"{whole} s" if whole < _MINUTE else duration(whole)
    text = f"{length} ago" if seconds >= 0 else f"in {length}"
    exact = f"{utc:%Y-%m-%d %H:%M:%S} UTC"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(utc.isoformat(timespec="seconds"), exact, text)


def day(value: date) -> Markup:
    """A day as an element that programs can read."""
    return Markup('<time datetime="{}">{}</time>').format(value.isoformat(), value.isoformat())


def count(value: float | Decimal | None) -> str:
    """A number with separators of thousands, and two decimal places at most."""
    if value is None:
        return "–"
    return f"{value:,.2f}".rstrip("0").rstrip(".") if value % 1 else f"{value:,.0f}"


def cents(value: float | Decimal | None) -> str:
    """An amount of cents. Whose cents they are, only who set the prices knows."""
    return "–" if value is None else f"{count(value)} ¢"


def _environment_of_pages() -> Environment:
    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(duration=duration, moment=moment, ago=ago, day=day, count=count, cents=cents)
    environment.globals.update(static=static_url)
    return environment


_environment = _environment_of_pages()
