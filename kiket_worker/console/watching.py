"""Watching runs: one question to the ledger for everybody who watches, as often as something may have changed."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import UUID

from kiket_worker.errors import KiketError
from kiket_worker.ledger import runs
from kiket_worker.ledger.database import Database
from kiket_worker.ledger.runs import Watched
from kiket_worker.ledger.tokens import TokenId

POLL_SECONDS = 0.5


class Watch:
    """The runs that somebody watches now. Used in one event loop.

    While nobody does, nothing is asked; and however many watch, it is one question each half second. A ledger that does
    not answer is asked again; those who watch see nothing new meanwhile.
    """

    def __init__(self, database: Database, *, most: int, poll_seconds: float = POLL_SECONDS) -> None:
        """At most `most` watch at a time, and a quarter of them with one token."""
        self._most = most
        self._ask: Callable[[list[UUID]], dict[UUID, Watched]] = lambda ids: runs.watched(database, ids)
        self._poll_seconds = poll_seconds
        self._watchers: Counter[UUID] = Counter()
        self._by_token: Counter[TokenId] = Counter()
        self._known: dict[UUID, Watched] = {}
        self._task: asyncio.Task[None] | None = None
        self._looked = asyncio.Event()
        self.has_ended = False

    def end(self) -> None:
        """Have everybody who watches stop: this process ends."""
        self.has_ended = True
        self._looked.set()

    def is_full(self, token_id: TokenId) -> bool:
        """Whether nobody else may watch with this token at the moment."""
        return self._watchers.total() >= self._most or self._by_token[token_id] >= max(1, self._most // 4)

    @asynccontextmanager
    async def of(self, run_id: UUID, token_id: TokenId) -> AsyncIterator[Callable[[], Watched | None]]:
        """Watch a run until the block ends; what is given tells how far it is, None before the first look."""
        self._watchers[run_id] += 1
        self._by_token[token_id] += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())
        try:
            yield lambda: self._known.get(run_id)
        finally:
            self._watchers[run_id] -= 1
            self._by_token[token_id] -= 1
            # Without what is zero.
            self._watchers, self._by_token = +self._watchers, +self._by_token
            if run_id not in self._watchers:
                self._known.pop(run_id, None)

    async def looked(self) -> None:
        """Wait for the next look."""
        await self._looked.wait()

    async def _look(self) -> None:
        while self._watchers:
            ids = list(self._watchers)
            try:
                found = await asyncio.to_thread(self._ask, ids)
            except KiketError:
                found = {}
            self._known.update({run_id: state for run_id, state in found.items() if run_id in self._watchers})
            self._looked.set()
            self._looked = asyncio.Event()
            await asyncio.sleep(self._poll_seconds)
