"""What is done now and then: pruning, and setting aside work that no running process knows.

Nothing here ticks: there is a next instant only while there is something to do at it.
"""

from collections.abc import Collection, Mapping

from inloop._clock import Clock
from inloop._exchange import By
from inloop._model import Micros, State
from inloop._store.protocol import Store

MINUTE = 60_000_000
# A task function that no running process knows may come with the next deploy: so long it waits.
UNKNOWN_FOR = 10 * MINUTE
# What was deleted can be restored for at least so long.
UNDO_FOR = 1 * MINUTE
PRUNED_AT_ONCE = 500
# Between two batches, so that pruning a million rows delays nobody.
PRUNE_PAUSE = 50_000

Retention = Mapping[State, Micros | None]


def ends_of(retention: Retention, now: Micros) -> dict[State, Micros]:
    """The instants before which tasks of each final state are old."""
    return {state: now - keep for state, keep in retention.items() if keep is not None}


class Chores:
    """The chores of one engine."""

    def __init__(self, store: Store, clock: Clock, retention: Retention) -> None:
        self._store = store
        self._clock = clock
        self._retention = retention
        self._next_look: Micros = 0
        self._next_prune: Micros | None = 0
        self._has_strangers = False
        self._known: frozenset[str] | None = None

    def look_soon(self) -> None:
        """Something that chores depend on has changed."""
        self._next_look = 0

    def finished(self, state: State, at: Micros) -> bool:
        """A task has ended; whether it is the next that will have to be pruned."""
        keep = self._retention[state]
        if keep is None or (self._next_prune is not None and self._next_prune <= at + keep):
            return False
        self._next_prune = at + keep
        return True

    def next(self) -> Micros | None:
        """When there is something to do."""
        return _first(self._next_prune, self._next_look if self._has_strangers else None)

    async def do(self, known: Collection[str]) -> bool:
        """Do what is due, a bounded piece of it; whether any task was moved."""
        now = self._clock.now()
        if self._next_prune is not None and now >= self._next_prune:
            await self._prune(now)
        if now < self._next_look:
            return False
        self._next_look = now + MINUTE
        return await self._look(frozenset(known), now) > 0

    async def _look(self, known: frozenset[str], now: Micros) -> int:
        if known != self._known:
            await self._store.know(sorted(known))
            self._known = known
        by = By(now, "engine", None)
        self._has_strangers, held = await self._store.hold_unknown(now - UNKNOWN_FOR, by)
        self._next_prune = _first(self._next_prune, await self._when_to_prune(now))
        return held

    async def _prune(self, now: Micros) -> None:
        ends = ends_of(self._retention, now)
        pruned = await self._store.prune(ends, now - UNDO_FOR, now, PRUNED_AT_ONCE)
        if pruned >= PRUNED_AT_ONCE:
            self._next_prune = now + PRUNE_PAUSE
        else:
            if ends:
                await self._store.prune_records(min(ends.values()))
            self._next_prune = await self._when_to_prune(now)

    async def _when_to_prune(self, now: Micros) -> Micros | None:
        due = await self._store.next_prune(self._retention, UNDO_FOR)
        # One that should have gone and is still there is looked at again later.
        return now + MINUTE if due is not None and due <= now else due


def _first(*instants: Micros | None) -> Micros | None:
    return min((at for at in instants if at is not None), default=None)
