"""Handles: live, awaitable references to tasks, in this process or any other."""

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from inloop._checks import duration
from inloop._codec import LARGE
from inloop._errors import TaskCancelled, TaskFailed, TaskNotFound
from inloop._events import Outcome
from inloop._exchange import Ended
from inloop._model import FINAL, Event, State, Task

if TYPE_CHECKING:
    from inloop._manager import TaskManager

R = TypeVar("R")


class TaskHandle(Generic[R]):
    """A reference to a task. `await handle` gives its result.

    `id` names the task in every process and after every restart; `created` is False where a task
    with the same key was there already.
    """

    __slots__ = ("_decode", "_manager", "_outcome", "created", "id")

    def __init__(
        self,
        manager: "TaskManager",
        task_id: str,
        decode: Callable[[str], R],
        outcome: Outcome,
        *,
        created: bool = False,
    ) -> None:
        self.id = task_id
        self.created = created
        self._manager = manager
        self._decode = decode
        self._outcome = outcome

    def __repr__(self) -> str:
        return f"<TaskHandle {self.id}>"

    def __await__(self) -> Generator[Any, None, R]:
        return self.result().__await__()

    async def result(self, timeout: float | timedelta | None = None) -> R:
        """Wait for the task to end, and return what it returned.

        timeout: seconds to wait, or a timedelta; None waits for ever. Raises `TaskFailed` (its
        cause is the original exception if the task ran in this process), `TaskCancelled`,
        `TaskNotFound` if the task was removed, and `TimeoutError`. Cancelling or timing out this
        wait does not cancel the task, and a held task keeps its waiters waiting.
        """
        await self._manager._ready()
        seconds = None if timeout is None else duration(timeout, "timeout", least=0.0)
        ended = await self._ended(seconds)
        if ended.state is State.SUCCEEDED:
            text = ended.result or "null"
            if len(text) > LARGE:
                return await self._manager._in_thread(partial(self._decode, text))
            return self._decode(text)
        if ended.state is State.CANCELLED:
            raise TaskCancelled(ended.id, ended.name, ended.reason)
        told = str(ended.error) if ended.error else ended.reason or "failed"
        raise TaskFailed(ended.id, ended.name, ended.attempt, told) from self._outcome.error

    async def _ended(self, timeout: float | None) -> Ended:
        outcome, outcomes = self._outcome, self._manager._outcomes
        if not outcomes.is_sure(outcome):
            # First listen, then look: what ends in between is heard.
            with outcomes.listen(outcome) as told:
                await self._look(outcome, told)
                try:
                    async with asyncio.timeout(timeout):
                        await told
                except TimeoutError:
                    raise TimeoutError(
                        f"task {self.id} has not ended within {timeout:g} s; it goes on"
                    ) from None
        if outcome.ended is None:
            raise TaskNotFound(self.id)
        return outcome.ended

    async def _look(self, outcome: Outcome, told: asyncio.Future[None]) -> None:
        manager = self._manager
        if manager._is_running(self.id):
            return
        found = await manager._store.ended([self.id])
        if told.done():
            return  # it ended while we read, and what we read is older
        if self.id in found:
            manager._outcomes.tell(self.id, found[self.id])
        elif outcome.is_known:
            outcome.reset()  # it was retried

    async def task(self) -> Task:
        """The task as it stands now."""
        return await self._manager.get(self.id)

    async def cancel(self, *, reason: str | None = None, actor: str = "code") -> bool:
        """As `TaskManager.cancel`."""
        return await self._manager.cancel(self.id, reason=reason, actor=actor)

    async def pause(self, *, reason: str | None = None, actor: str = "code") -> bool:
        """As `TaskManager.pause`."""
        return await self._manager.pause(self.id, reason=reason, actor=actor)

    async def resume(self, *, reason: str | None = None, actor: str = "code") -> bool:
        """As `TaskManager.resume`."""
        return await self._manager.resume(self.id, reason=reason, actor=actor)

    async def retry(self, *, reason: str | None = None, actor: str = "code") -> "TaskHandle[R]":
        """As `TaskManager.retry`."""
        await self._manager.retry(self.id, reason=reason, actor=actor)
        return self

    async def watch(self) -> AsyncIterator[Event]:
        """The task's events, from its first on and then live, until it has ended.

        Besides what is stored (`events`), "progress" and "logged" come live while the task runs in
        this process; from another process its progress is told once a second.
        """
        manager = self._manager
        async with manager._listen(self.id) as listener:
            seen, has_ended = 0, False
            for event in await manager.events(self.id):
                seen = event.id or seen
                has_ended = event.to in FINAL
                yield event
            if has_ended:
                return
            async for event in listener:
                if event.id is not None and event.id <= seen:
                    continue
                yield event
                if event.what == "moved" and event.to in FINAL:
                    return
