"""Placeholders of exposures are texts to dbt, whatever is written in them."""

import jinja2
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kiket_worker.dbt.placeholders import kept_literal


def exposure(**texts: str) -> str:
    return yaml.safe_dump({"exposures": [{"name": "board", **texts}]}, allow_unicode=True)


def rendered(text: str) -> dict[str, str]:
    """As dbt renders what YAML gives."""
    (read,) = yaml.safe_load(kept_literal(text))["exposures"]
    return {key: jinja2.Environment(autoescape=False).from_string(value).render() for key, value in read.items()}


@given(st.text("{}%#-+ abrawend_'\".()", max_size=60))
def test_every_text_stays_as_it_was_written(text: str) -> None:
    # YAML and Jinja both take the last line feed away; what begins or ends a text is not the question here.
    wanted = f"a{text}z"

    assert rendered(exposure(url=wanted, description=wanted)) == {"name": "board", "url": wanted, "description": wanted}


@pytest.mark.parametrize(
    "text",
    [
        "exposures:\n  - name: board\n    url: https://x/{{ project_slug }}\n",
        "exposures:\n  - name: board\n    url: 'https://x/{{ project_slug }}'\n",
        'exposures:\n  - name: board\n    url: "https://x/{{ project_slug }}"\n',
        "exposures:\n  - name: board\n    url: >-\n      https://x/{{ project_slug }}\n",
    ],
)
def test_in_every_style_of_yaml(text: str) -> None:
    assert rendered(text)["url"] == "https://x/{{ project_slug }}"
    assert kept_literal(text).count("\n") == text.count("\n")


def test_other_texts_are_left_to_dbt() -> None:
    text = 'models:\n  - name: a\n    description: "{{ doc(\'x\') }}"\nexposures:\n  - name: "{{ x }}"\n'

    assert kept_literal(text) == text
