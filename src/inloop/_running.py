"""What runs here: every attempt that this engine has in hand, and the slots they take."""

from collections.abc import Iterator

from inloop._model import State
from inloop._runner import Run


class Running:
    """The attempts in hand, by task; `concurrency` of them may run at once.

    A slot is taken by a running attempt, and reserved for one that is on its way: a claim in
    flight, a task that may start as it is stored. A paused attempt is in hand and holds none.
    """

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._by_seq: dict[int, Run] = {}
        self._by_id: dict[str, Run] = {}
        self.taken = 0
        self.reserved = 0

    def __iter__(self) -> Iterator[Run]:
        return iter(list(self._by_seq.values()))

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._by_id

    @property
    def free(self) -> int:
        """Slots that are neither taken nor reserved."""
        return self._concurrency - self.taken - self.reserved

    def is_unused(self) -> bool:
        """Whether no slot is taken or reserved."""
        return self.taken + self.reserved == 0

    @property
    def ids(self) -> set[str]:
        """The ids of the tasks in hand."""
        return set(self._by_id)

    def of(self, seq: int, attempt: int) -> Run | None:
        """That very attempt, if it is in hand and has not ended."""
        run = self._by_seq.get(seq)
        return run if run and run.claimed.attempt == attempt and not run.is_over else None

    def add(self, run: Run) -> None:
        """A claimed attempt takes its slot."""
        self._by_seq[run.claimed.seq] = self._by_id[run.claimed.id] = run
        self.taken += 1

    def forget(self, run: Run) -> None:
        """It has ended, and its end is stored or not wanted."""
        # The task may be in hand again by a later attempt, if this one was taken over.
        if self._by_seq.get(run.claimed.seq) is run:
            del self._by_seq[run.claimed.seq]
        if self._by_id.get(run.claimed.id) is run:
            del self._by_id[run.claimed.id]
        if run.holds_slot:
            run.holds_slot = False
            self.taken -= 1

    def pause(self, run: Run) -> None:
        """It is stored as paused: its slot is free."""
        run.state, run.holds_slot = State.PAUSED, False
        self.taken -= 1

    def resume(self, run: Run) -> None:
        """It is stored as running again."""
        run.state, run.holds_slot = State.RUNNING, True
        self.taken += 1

    def is_empty(self) -> bool:
        """Nothing is in hand, not even paused, and nothing is being claimed."""
        return not self.reserved and not self._by_seq

    def is_idle(self) -> bool:
        """Nothing runs, nothing that has run is still to be stored, nothing is being claimed."""
        return not self.reserved and not any(run.holds_slot or run.is_over for run in self)

    def has_only_threads(self) -> bool:
        """All that is left are plain functions that do not end."""
        return all(run.in_thread and not run.is_over for run in self)

    def is_busy(self) -> bool:
        """Whether anything's end, or next state, is on its way."""
        return bool(self.reserved) or any(run.is_busy for run in self)

    def names(self) -> list[str]:
        """What holds a slot, for messages."""
        return [f"{run.claimed.name} ({run.claimed.id})" for run in self if run.holds_slot]
