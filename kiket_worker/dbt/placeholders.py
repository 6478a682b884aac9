"""Placeholders of the platform in exposures, as `{{ project_slug }}`: texts that dbt must not render."""

import re
from collections.abc import Iterator

import yaml

# What begins something that Jinja would read.
OPENING = re.compile(r"\{[{%#]")
_KEPT = frozenset(["url", "description"])


def kept_literal(text: str) -> str:
    """The YAML of a dbt project with the urls and descriptions of its exposures as they are, for dbt to read.

    Each opening brace is told to Jinja as raw text by itself, so that no text can end what it was put into. Lines stay
    where they are.
    """
    if "exposures" not in text or not OPENING.search(text):
        return text
    try:
        document = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError:
        return text  # dbt says it better.
    kept, at = [], 0
    for node in _texts_of_exposures(document):
        start, end = node.start_mark.index, node.end_mark.index
        kept += [text[at:start], OPENING.sub(r"{% raw %}\g<0>{% endraw %}", text[start:end])]
        at = end
    return "".join([*kept, text[at:]])


def _texts_of_exposures(document: yaml.Node | None) -> Iterator[yaml.ScalarNode]:
    for exposures in _values(document, "exposures"):
        for exposure in exposures.value if isinstance(exposures, yaml.SequenceNode) else ():
            for key, value in exposure.value if isinstance(exposure, yaml.MappingNode) else ():
                if key.value in _KEPT and isinstance(value, yaml.ScalarNode):
                    yield value


def _values(node: yaml.Node | None, wanted: str) -> Iterator[yaml.Node]:
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if key.value == wanted:
            yield value
