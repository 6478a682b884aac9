"""What form of an answer somebody would rather have (RFC 9110, section 12.5.1)."""

import re

_QUALITY = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")


def prefers_csv(accept: str) -> bool:
    """Whether `text/csv` is named with a higher quality than JSON has; otherwise the answer is JSON."""
    csv = _quality(accept, ("text/csv",))
    return csv > 0 and csv > _quality(accept, ("application/json", "application/*", "*/*"))


def _quality(accept: str, names: tuple[str, ...]) -> float:
    found = {}
    for entry in accept.lower().split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        quality = next((match[1] for match in map(_QUALITY.fullmatch, parameters) if match), "1")
        found[name] = float(quality)
    # The most specific name counts.
    return next((found[name] for name in names if name in found), 0.0)
