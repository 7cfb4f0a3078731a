"""What running tasks tell on the way, their log lines and their progress, gathered and stored.

Telling costs the task next to nothing, and may come from any thread; a few times a second all that
was told since is stored in one transaction.
"""

import asyncio
import logging

from inloop._clock import Clock
from inloop._errors import NotOpen, StoreError
from inloop._events import Feed
from inloop._exchange import Line
from inloop._model import Event, LogLine, Progress, to_datetime
from inloop._runner import Run
from inloop._store.protocol import Store
from inloop._threads import post

log = logging.getLogger("inloop")

EVERY = 0.25
PROGRESS_EVERY = 1.0


class Notes:
    """Gathers from all runs of one engine."""

    def __init__(self, store: Store, feed: Feed, clock: Clock) -> None:
        self._store = store
        self._feed = feed
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._runs: set[Run] = set()
        self._wanted = asyncio.Event()
        self._is_asked = False

    def want(self, run: Run) -> None:
        """This run has something to store; from any thread."""
        self._runs.add(run)
        if not self._is_asked:
            self._is_asked = True
            post(self._loop, self._wanted.set)

    async def write(self) -> None:
        """Store what is told, as long as anything is; runs until cancelled."""
        self._wanted.set()  # also when it is started again after a failure
        while True:
            await self._wanted.wait()
            await asyncio.sleep(EVERY)
            self._wanted.clear()
            self._is_asked = False
            try:
                await self.write_now()
            except StoreError:
                # The engine tells of it; what was taken is back in its place.
                self._wanted.set()
            except NotOpen:
                return

    async def write_now(self) -> None:
        """Store all that was told up to now."""
        # Each step is atomic, for threads add to the set at any moment.
        runs = list(self._runs)
        self._runs.difference_update(runs)
        progress = [(run, told) for run in runs if (told := self._due_progress(run)) is not None]
        taken = [(run, lines) for run in runs if (lines := run.lines.take())]
        if not progress and not taken:
            return
        try:
            await self._store.note(
                [line for _, lines in taken for line in lines],
                [(run.claimed.seq, run.claimed.attempt, told) for run, told in progress],
            )
        except BaseException:
            for run, lines in taken:
                run.lines.put_back(lines)
            self._runs.update(runs)
            raise
        now = asyncio.get_running_loop().time()
        for run, told in progress:
            run.progress_stored, run.progress_at = told, now
        self._tell(progress, taken)

    def _due_progress(self, run: Run) -> Progress | None:
        told = run.progress
        if told is None or told == run.progress_stored or run.is_over:
            return None
        if asyncio.get_running_loop().time() - run.progress_at < PROGRESS_EVERY:
            self.want(run)  # not yet: look again next time
            return None
        return told

    def unsaved(self, run: Run) -> Progress | None:
        """Progress that its last move is to carry."""
        return None if run.progress == run.progress_stored else run.progress

    def _tell(
        self, progress: list[tuple[Run, Progress]], taken: list[tuple[Run, list[Line]]]
    ) -> None:
        if not self._feed.is_heard:
            return
        for run, told in progress:
            self._feed.tell(self._event(run, "progress", progress=told))
        for run, lines in taken:
            self.tell_lines(run, lines)

    def tell_lines(self, run: Run, lines: list[Line]) -> None:
        """Let subscribers see lines that are stored now."""
        if lines and self._feed.is_heard:
            self._feed.tell(
                self._event(
                    run,
                    "logged",
                    lines=tuple(
                        LogLine(0, line.attempt, to_datetime(line.at), *line[3:]) for line in lines
                    ),
                )
            )

    def _event(
        self,
        run: Run,
        what: str,
        *,
        progress: Progress | None = None,
        lines: tuple[LogLine, ...] = (),
    ) -> Event:
        return Event(
            task_id=run.claimed.id,
            what=what,
            at=to_datetime(self._clock.now()),
            origin=run.state,
            to=run.state,
            attempt=run.claimed.attempt,
            actor="engine",
            progress=progress,
            lines=lines,
        )
