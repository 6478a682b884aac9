"""The list of gates: what an entry may say, and that each wrong one is named."""

from pathlib import Path

import pytest
from psycopg import sql

from kiket_worker.errors import InvalidSetting
from kiket_worker.settings import Settings
from kiket_worker.tenants.gates import Gate, Step, load_gates

GOOD = '[issues]\ntable = "public.issues"\ntenant = "organization_id"\nexpose = ["id"]\n'


def loaded(folder: Path, text: str | bytes) -> tuple[Gate, ...]:
    path = folder / "gates.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_gates(path)


def entry(table: str = '"public.issues"', tenant: str = '"organization_id"', more: str = 'expose = ["id"]') -> str:
    return f"[issues]\ntable = {table}\ntenant = {tenant}\n{more}\n"


def test_the_list_of_this_release_names_each_raw_table_once_and_withholds_addresses() -> None:
    gates = load_gates(None)
    assert [gate.name for gate in gates] == [
        *("organizations", "users", "projects", "issues", "comments", "releases", "usage_events"),
    ]
    assert not any(gate.withholds for gate in gates), "a column that the platform adds is not readable by itself"
    (users,) = [gate for gate in gates if gate.name == "users"]
    assert "email" not in users.columns


def test_an_entry_is_read_as_it_is_written(tmp_path: Path) -> None:
    assert loaded(tmp_path, GOOD) == (Gate("issues", "public", "issues", (), "organization_id", ("id",), False),)
    assert loaded(tmp_path, "") == ()
    text = entry(more='withhold = ["email", "Phone Number"]')
    assert loaded(tmp_path, text)[0].columns == ("email", "Phone Number")
    assert loaded(tmp_path, text)[0].withholds
    assert loaded(tmp_path, entry(more="withhold = []"))[0].exposed(("a", "b")) == ("a", "b")


def test_a_way_leads_over_several_parents(tmp_path: Path) -> None:
    way = '"comment_id -> public.comments.id,issue_id -> other.issues.key , organization_id"'
    (gate,) = loaded(tmp_path, f'[reactions]\ntable = "public.reactions"\ntenant = {way}\nexpose = ["id", "emoji"]\n')
    assert gate.steps == (Step("comment_id", "public", "comments", "id"), Step("issue_id", "other", "issues", "key"))
    assert gate.tenant_column == "organization_id"
    assert gate.columns_read(("id", "emoji", "secret")) == {
        ("public", "reactions"): {"id", "emoji", "comment_id"},
        ("public", "comments"): {"id", "issue_id"},
        ("other", "issues"): {"key", "organization_id"},
    }
    assert gate.query(sql.SQL("*")).as_string() == (
        'select * from "public"."reactions" as raw where '
        'exists (select from "public"."comments" as "parent_1" where "parent_1"."id" = "raw"."comment_id" and '
        'exists (select from "other"."issues" as "parent_2" where "parent_2"."key" = "parent_1"."issue_id" and '
        '"parent_2"."organization_id" = (select "analytics_raw".session_organization_id())))'
    )


def test_the_owner_reads_the_tenant_column_also_where_nobody_else_may(tmp_path: Path) -> None:
    (gate,) = loaded(tmp_path, entry(more='withhold = ["organization_id", "title"]'))
    present = ("id", "organization_id", "title")
    assert gate.exposed(present) == ("id",)
    assert gate.columns_read(present) == {("public", "issues"): {"id", "organization_id"}}


def test_what_is_exposed_keeps_the_lists_order_and_what_is_absent_is_left_out(tmp_path: Path) -> None:
    (gate,) = loaded(tmp_path, entry(more='expose = ["title", "gone", "id"]'))
    assert gate.exposed(("id", "organization_id", "title")) == ("title", "id")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (entry(more='expose = ["id"]\ncolour = "red"\nage = 5'), ["[issues] has age, colour", "known are table"]),
        (entry(table='""'), ["[issues] has to name its table as schema.table"]),
        ('[issues]\ntenant = "organization_id"\nexpose = ["id"]', ["[issues] has to name its table"]),
        (entry(table='"issues"'), ["[issues] has to name its table"]),
        (entry(table='"kiket.public.issues"'), ["[issues] has to name its table"]),
        (entry(table='"public.Issues"'), ["[issues] has to name its table"]),
        (entry(table='"public.issues; drop schema public"'), ["[issues] has to name its table"]),
        (entry(table="5"), ["[issues] has to name its table"]),
        (entry(more='expose = ["id"]\nwithhold = ["title"]'), ["[issues] has to have either expose or withhold"]),
        (entry(more=""), ["[issues] has to have either expose or withhold"]),
        (entry(more="expose = []"), ["[issues] exposes no column"]),
        (entry(more='expose = "id"'), ["[issues] has to list columns by their names"]),
        (entry(more="expose = [5]"), ["[issues] has to list columns by their names"]),
        (entry(more='withhold = [""]'), ["[issues] has to list columns by their names"]),
        (entry(more='expose = ["id", "title", "id"]'), ["[issues] has id more than once"]),
        (entry(tenant='""'), ["[issues] has the tenant ''", "->"]),
        ('[issues]\ntable = "public.issues"\nexpose = ["id"]', ["[issues] has the tenant", "->"]),
        (entry(tenant='"organization_id or true"'), ["[issues] has the tenant 'organization_id or true'"]),
        (entry(tenant='"issue_id -> issues.id, organization_id"'), ["[issues] has the tenant 'issue_id -> issues.id"]),
        (entry(tenant='"issue_id -> public.issues.id"'), ["[issues] has the tenant"]),
        (entry(tenant='"organization_id, issue_id -> public.issues.id"'), ["[issues] has the tenant"]),
        (entry(tenant="5"), ["[issues] has the tenant '5'"]),
        ('["Issues"]\ntable = "public.issues"', ["'Issues' cannot be the name of a gate", "small letters"]),
        (f'[{"i" * 64}]\ntable = "public.issues"', ["cannot be the name of a gate"]),
        ("issues = 5", ["issues is no table", "[issues]"]),
        ("[issues", ["is no TOML"]),
        (GOOD + GOOD, ["is no TOML"]),
        (b"\xff\xfe", ["is no TOML"]),
    ],
)
def test_each_wrong_entry_is_named_with_the_file(tmp_path: Path, text: str | bytes, words: list[str]) -> None:
    with pytest.raises(InvalidSetting) as caught:
        loaded(tmp_path, text)
    assert str(tmp_path / "gates.toml") in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_one_wrong_entry_among_good_ones_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match=r"\[users\]"):
        loaded(tmp_path, GOOD + '[users]\ntable = "public.users"\ntenant = "organization_id"\n')


@pytest.mark.parametrize("kind", ["missing", "a folder"])
def test_a_list_that_cannot_be_read_is_named_with_its_variable(tmp_path: Path, kind: str) -> None:
    path = tmp_path if kind == "a folder" else tmp_path / "nowhere.toml"
    with pytest.raises(InvalidSetting, match="KIKET_GATES_FILE") as caught:
        load_gates(path)
    assert str(path) in str(caught.value)


def test_the_file_is_that_of_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"DATABASE_URL": "postgresql://x", "RABBITMQ_URL": "memory://", "ARTIFACTS_URL": "file:///x"}
    assert Settings.model_validate(values | {"KIKET_GATES_FILE": "/etc/gates.toml"}).gates_file == Path(
        "/etc/gates.toml"
    )
    assert Settings.model_validate(values).gates_file is None
