"""Comments of the sample platform: a few words on every seventh issue, by the organisation's first user."""

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from kiket_worker.dev.sample import OrganizationSpec

_EVERY = 7
_WORDS = ("Looks good to me.", "Kann das noch warten?", "Same on my machine.", "請參閱設計文件。", "See #42; ok? --")


class CommentRow(NamedTuple):
    """One row of `public.comments`, its fields in COPY's order. Whose it is, only its issue tells."""

    id: int
    issue_id: int
    author_id: int
    body: str
    created_at: datetime


def comment_rows(spec: OrganizationSpec, seed: int, now: datetime) -> Iterator[CommentRow]:  # as others
    """The organisation's comments, written at `now`; none where nobody could have written them."""
    if not spec.users:
        return
    for number in range(1, spec.issues + 1, _EVERY):
        issue_id = spec.row_id(number)
        yield CommentRow(issue_id, issue_id, spec.row_id(1), _WORDS[number // _EVERY % len(_WORDS)], now)
