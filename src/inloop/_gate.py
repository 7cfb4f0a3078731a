"""Drives a coroutine, and can hold it where it awaits.

    asyncio task ── send ──► Gate.drive ── send ──► the user's coroutine
                 ◄── future ─┘          ◄── future ─┘

What the coroutine yields, the futures it waits for, passes through untouched; so its asyncio task
behaves as if nobody were in between. While the gate is shut, a future that has completed is not
followed by the next step: the driver waits for the gate instead.

Exceptions are never held back. A cancellation, or the expiry of a timeout that the code set itself,
is delivered at once, and the coroutine is held again when its next await completes. An anyio cancel
scope would otherwise call `cancel()` in a tight loop until somebody listens.
"""

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")


class Gate:
    """One coroutine's gate; open at first. Used in its event loop's thread only."""

    __slots__ = ("_abandoned", "_may_hold", "_opened", "_shut", "_stands", "is_closing")

    def __init__(
        self,
        may_hold: Callable[[], bool] = lambda: True,
        stands: Callable[[], None] = lambda: None,
    ) -> None:
        # Asked at each await at which the coroutine would be held; told when it is.
        self._may_hold = may_hold
        self._stands = stands
        self._shut = False
        self._abandoned = False
        # The driver itself is being closed: its event loop goes away.
        self.is_closing = False
        self._opened: asyncio.Future[None] | None = None

    @property
    def is_shut(self) -> bool:
        """Whether the coroutine is being held."""
        return self._shut

    def shut(self) -> None:
        """Hold the coroutine, from the first await on at which that may be."""
        self._shut = True

    def open(self) -> None:
        """Let it go on."""
        self._shut = False
        if self._opened is not None and not self._opened.done():
            self._opened.set_result(None)
        self._opened = None

    def abandon(self) -> None:
        """Never step the coroutine again: at the next wake-up it is closed where it stands."""
        self._abandoned = True

    async def passed(self) -> None:
        """Wait until the gate is open."""
        while self._shut:
            # Several may wait here, and one being cancelled must not cancel what others wait for.
            await asyncio.shield(self._opening())

    def _opening(self) -> asyncio.Future[None]:
        if self._opened is None or self._opened.done():
            self._opened = asyncio.get_running_loop().create_future()
        return self._opened

    @types.coroutine
    def drive(self, coroutine: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        """Run the coroutine to its end, as `await coroutine` would."""
        error = yield from self._hold()
        while True:
            try:
                waits_for = coroutine.send(None) if error is None else coroutine.throw(error)
            except StopIteration as stop:
                result: T = stop.value
                return result
            try:
                yield waits_for
            except BaseException as thrown:
                error = self._told(thrown)
            else:
                error = yield from self._hold()
            if self._abandoned:
                _close(coroutine)
                raise asyncio.CancelledError

    def _hold(self) -> Generator[Any, Any, BaseException | None]:
        """Stand still while the gate is shut; an exception that arrives is to be delivered."""
        try:
            while self._shut and self._may_hold():
                self._stands()
                yield from self._held()
        except BaseException as thrown:
            return self._told(thrown)
        return None

    def _told(self, thrown: BaseException) -> BaseException:
        self.is_closing = isinstance(thrown, GeneratorExit)
        return thrown

    def _held(self) -> Generator[Any, Any, None]:
        # A future of this driver's own: cancelling it must not reach others who wait to pass.
        opening = self._opening()
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def let_go(_: asyncio.Future[None]) -> None:
            if not mine.done():
                mine.set_result(None)

        opening.add_done_callback(let_go)
        yield from mine.__await__()


CLOSING_TRIES = 100
_unending: list[Coroutine[Any, Any, Any]] = []


def _close(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Close a coroutine that may do anything about it, such as await again in its `finally`."""
    for _ in range(CLOSING_TRIES):
        try:
            coroutine.close()
        except RuntimeError:  # it awaited something: once more, from there
            continue
        except Exception:
            return  # its clean-up failed; it has ended all the same
        return
    # Let go of, it would be closed once more by the collector, and complain there.
    _unending.append(coroutine)
