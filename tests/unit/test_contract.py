"""The refresh message: what is read, what is refused and with which words, and what is written."""

import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiket_worker.contract import MESSAGE_LIMIT_BYTES, InvalidMessage, Reason, RefreshMessage, known_traceparent

# As an AMQP client in another language would send it (design, "Contracts").
DESIGN_EXAMPLE = """
{"version": 1, "organization": "acme", "reason": "manual",
 "requested_by": "user:42", "idempotency_key": "…", "full_refresh": false, "docs": false,
 "select": ["fct_cycle_time+"]}
"""

texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=255)
messages = st.builds(
    RefreshMessage,
    version=st.just(1),
    organization=texts,
    reason=st.sampled_from(Reason),
    requested_by=st.none() | texts,
    idempotency_key=st.none() | texts,
    full_refresh=st.booleans(),
    docs=st.booleans(),
    select=st.none() | st.lists(texts, min_size=1, max_size=20),
    traceparent=st.none() | texts,
    kiket_run_id=st.none() | st.uuids(),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=10,
)


def body(**changes: Any) -> bytes:
    """A valid message but for the changes; a field that is `...` is left out."""
    fields = {"version": 1, "organization": "acme"} | changes
    return json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()


def refusal(raw: bytes) -> str:
    with pytest.raises(InvalidMessage) as caught:
        RefreshMessage.from_bytes(raw)
    return str(caught.value)


@given(messages)
def test_what_is_written_is_read_back(message: RefreshMessage) -> None:
    assert RefreshMessage.from_bytes(message.to_bytes()) == message


@given(messages, st.dictionaries(st.text().filter(lambda name: name not in RefreshMessage.model_fields), json_values))
def test_fields_of_newer_publishers_are_ignored(message: RefreshMessage, unknown: dict[str, Any]) -> None:
    document = json.loads(message.to_bytes()) | unknown
    assert RefreshMessage.from_bytes(json.dumps(document).encode()) == message


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("traceparent", "caller"),
    [
        (f"00-{TRACE}-01", f"00-{TRACE}-01"),
        (f"00-{TRACE}-00", f"00-{TRACE}-00"),
        # A later version may put more behind it.
        (f"cc-{TRACE}-01-what-comes", f"00-{TRACE}-01"),
        (f"00-{TRACE}-01-more", None),
        (f"ff-{TRACE}-01", None),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", None),
        (f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-01", None),
        (f"00-{TRACE}-01\n", None),
        ("x", None),
        (None, None),
    ],
)
def test_a_traceparent_counts_where_it_is_one(traceparent: str | None, caller: str | None) -> None:
    message = RefreshMessage.from_bytes(body(traceparent=traceparent))
    assert message.caller == caller
    assert known_traceparent(traceparent) == caller


@pytest.mark.parametrize("header", [b"00-" + TRACE.encode() + b"-01", 7, ["x"], {"a": 1}])
def test_a_header_of_another_type_is_no_traceparent(header: object) -> None:
    assert known_traceparent(header) is None


def test_the_example_of_the_design_is_read() -> None:
    assert RefreshMessage.from_bytes(DESIGN_EXAMPLE.encode()) == RefreshMessage(
        version=1,
        organization="acme",
        reason=Reason.MANUAL,
        requested_by="user:42",
        idempotency_key="…",
        select=["fct_cycle_time+"],
    )


def test_only_version_and_organization_are_required() -> None:
    message = RefreshMessage.from_bytes(b'{"version":1,"organization":"acme"}')
    assert (message.reason, message.full_refresh, message.docs, message.select) == (Reason.MANUAL, False, False, None)


@pytest.mark.parametrize(
    ("message", "written"),
    [
        (RefreshMessage(version=1, organization="acme"), {"version": 1, "organization": "acme"}),
        (
            RefreshMessage(version=1, organization="acme", reason=Reason.SYNC, docs=True),
            {"version": 1, "organization": "acme", "reason": "sync", "docs": True},
        ),
        (
            RefreshMessage(version=1, organization="acme", kiket_run_id=uuid.UUID(int=7)),
            {"version": 1, "organization": "acme", "kiket_run_id": "00000000-0000-0000-0000-000000000007"},
        ),
    ],
)
def test_only_what_differs_from_the_defaults_is_written(message: RefreshMessage, written: dict[str, Any]) -> None:
    assert json.loads(message.to_bytes()) == written


WRONG_FIELDS = [
    ("version", ...),
    ("version", 2),
    ("version", 0),
    ("version", "1"),
    ("version", True),
    ("version", 1.0),
    ("version", None),
    ("organization", ...),
    ("organization", 5),
    ("organization", ""),
    ("organization", None),
    ("organization", ["acme"]),
    ("organization", "ac\x00me"),
    ("organization", "a" * 300),
    ("reason", "boredom"),
    ("reason", ""),
    ("reason", "MANUAL"),
    ("reason", None),
    ("reason", 1),
    ("requested_by", 42),
    ("requested_by", ""),
    ("requested_by", "a" * 256),
    ("requested_by", "\x00"),
    ("idempotency_key", 42),
    ("idempotency_key", ""),
    ("idempotency_key", "k" * 256),
    ("full_refresh", "yes"),
    ("full_refresh", 1),
    ("full_refresh", None),
    ("docs", "true"),
    ("docs", 0),
    ("select", "fct_cycle_time"),
    ("select", []),
    ("select", ["m"] * 101),
    ("select", [1]),
    ("select", ["m", None]),
    ("select", [""]),
    ("select", ["m\x00"]),
    ("select", {"model": "m"}),
    ("kiket_run_id", "acme"),
    ("kiket_run_id", ""),
    ("kiket_run_id", "7\n7"),
    ("kiket_run_id", 7),
]


@pytest.mark.parametrize(("field", "value"), WRONG_FIELDS, ids=lambda value: repr(value)[:30])
def test_a_wrong_field_is_named_in_one_line(field: str, value: Any) -> None:
    reason = refusal(body(**{field: value}))
    assert reason.startswith(field)
    assert len(reason.splitlines()) == 1


def test_every_wrong_field_is_named_at_once() -> None:
    reason = refusal(body(version=2, organization="", docs="no"))
    assert [part.partition(":")[0] for part in reason.split("; ")] == ["version", "organization", "docs"]


def test_the_largest_values_allowed_are_taken() -> None:
    longest = body(organization="a" * 255, requested_by="é" * 255, select=["m" * 255] * 100)
    assert len(RefreshMessage.from_bytes(longest).select or []) == 100


NO_MESSAGES = {
    "empty": b"",
    "text": b"refresh acme please",
    "cut": b'{"version":1,"organi',
    "two documents": b'{"version":1,"organization":"a"}{}',
    "array": b'[{"version":1,"organization":"acme"}]',
    "number": b"1",
    "string": b'"acme"',
    "null": b"null",
    "invalid UTF-8": b'{"version":1,"organization":"\xff\xfe"}',
    "UTF-16": '{"version":1,"organization":"acme"}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"version":1,"organization":"acme"}',
    "half a surrogate pair": b'{"version":1,"organization":"\\ud800"}',
    "nested deeply": b'{"version":1,"organization":"acme","x":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "nested more deeply than is read": b"[" * 100_000,
    "NaN": b'{"version":NaN,"organization":"acme"}',
    "NaN in an unknown field": b'{"version":1,"organization":"acme","x":NaN}',
    "Infinity": b'{"version":1,"organization":"acme","x":-Infinity}',
    "single quotes": b"{'version':1,'organization':'acme'}",
    "NUL bytes": bytes(1000),
}


@pytest.mark.parametrize("raw", NO_MESSAGES.values(), ids=NO_MESSAGES)
def test_what_is_no_json_object_is_refused_in_one_line(raw: bytes) -> None:
    reason = refusal(raw)
    assert reason.startswith("message: ")
    assert len(reason.splitlines()) == 1


@given(st.binary(max_size=200))
def test_no_bytes_do_worse_than_being_refused(raw: bytes) -> None:
    with pytest.raises(InvalidMessage):
        RefreshMessage.from_bytes(raw)


def test_the_last_of_two_equal_keys_counts() -> None:
    # RFC 8259 leaves it open; what counts is that the value which is used is also the one that is checked.
    assert RefreshMessage.from_bytes(b'{"version":1,"organization":"a","organization":"b"}').organization == "b"
    assert refusal(b'{"version":1,"version":2,"organization":"a"}').startswith("version")


def test_a_body_of_64_kib_is_read_and_a_longer_one_is_not() -> None:
    full = body(padding="").replace(b'"padding": ""', b'"padding": "%s"' % (b"x" * (MESSAGE_LIMIT_BYTES - 100)))
    full += b" " * (MESSAGE_LIMIT_BYTES - len(full))
    assert RefreshMessage.from_bytes(full).organization == "acme"
    reason = refusal(full + b" ")
    assert "65537" in reason
    assert "65536" in reason


def test_a_message_that_no_worker_would_read_is_not_written() -> None:
    with pytest.raises(InvalidMessage, match="65536"):
        RefreshMessage(version=1, organization="acme", select=["€" * 255] * 100).to_bytes()
