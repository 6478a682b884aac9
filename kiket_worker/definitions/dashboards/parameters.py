"""Reading the parameters of a query."""

from collections.abc import Iterator

from kiket_worker.definitions.dashboards import rules
from kiket_worker.definitions.dashboards.document import Parameter, ParameterType
from kiket_worker.definitions.dashboards.reading import Reading, did_you_mean, kind_of, quoted
from kiket_worker.definitions.dashboards.values import WORDS, does_fit
from kiket_worker.definitions.yaml_document import Located

_KEYS = ("name", "type", "required", "default", "description", "label")


def read_parameters(reading: Reading, value: Located, what: str, most: int) -> Iterator[Parameter]:
    """The parameters of a query: a list of mappings with a name, or a mapping of names to types or to such mappings."""
    seen: set[str] = set()
    for key, item, at in reading.named(value, "parameters", "name", what, most):
        name = reading.plain_name(key, at, f"the name of a parameter of {what}")
        if name is None:
            continue
        if name in seen:
            reading.add(rules.SHAPE, at, f"{what} declares the parameter {quoted(name)} twice", "take one away")
            continue
        seen.add(name)
        parameter = _parameter(reading, item, name, at, f"the parameter {quoted(name)} of {what}")
        if parameter is not None:
            yield parameter


def _parameter(reading: Reading, item: Located, name: str, line: int, named: str) -> Parameter | None:
    details = isinstance(item.content, dict)
    if not details and not isinstance(item.content, str):
        reading.add(rules.SHAPE, line, f"{named} is {kind_of(item)} and not a type")
        return None
    if details:
        reading.mapping(item, line, named, _KEYS)
    word = reading.text(item, "type", named, required=True) if details else str(item.content)
    if word is None:
        return None
    if word not in {kind.value for kind in ParameterType}:
        known = [kind.value for kind in ParameterType]
        reading.add(
            rules.PARAMETER_TYPE,
            item.line_of("type") if details else line,
            f"{named} is of type {quoted(word)}, which is not known{did_you_mean(word, known)}",
            f"known are {', '.join(known)}",
        )
        return None
    kind = ParameterType(word)
    is_required = details and reading.boolean(item, "required", named)
    default = item.get("default") if details else None
    plain = default.content if default is not None else None
    if isinstance(plain, list | dict) or (plain is not None and not does_fit(plain, kind)):
        reading.add(
            rules.PARAMETER_DEFAULT,
            item.line_of("default"),
            f"{named} is of type {kind.value}, and its default is not",
            f"write {WORDS[kind]}",
        )
        return Parameter(name, kind, is_required, None, line)
    return Parameter(name, kind, is_required, plain, line)
