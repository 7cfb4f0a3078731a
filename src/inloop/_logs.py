"""A running task's log records, gathered without a handler.

A handler on the root logger would silence the host's last-resort warnings and turn a later
`basicConfig()` into a no-op. So records are taken where they are born: the process's record factory
is replaced by one that calls the factory it found, and looks at the context for a running task.

`inloop.log` is a plain logger whose own level is set, so that its lines exist, and are gathered,
even where the host has set up no logging at all.
"""

import logging
import threading
import traceback
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar

from inloop._exchange import Line

log = logging.getLogger("inloop.task")

MOST_WAITING = 10_000
MOST_BYTES = 8 * 1024
MOST_LEVEL = 1000
CUT = " … (cut)"


class TaskLog:
    """The lines of one attempt that are not stored yet; appended to from any thread."""

    __slots__ = ("_attempt", "_lost", "_seq", "_waiting", "level", "soon")

    def __init__(
        self, seq: int, attempt: int, level: int, soon: Callable[[], None] = lambda: None
    ) -> None:
        self._seq = seq
        self._attempt = attempt
        self.soon = soon
        self._waiting: deque[Line] | None = None
        self._lost = 0
        self.level = level

    def add(self, record: logging.LogRecord) -> None:
        """Take one record; never blocks, never raises."""
        line = Line(
            self._seq,
            self._attempt,
            round(record.created * 1e6),
            min(max(record.levelno, 0), MOST_LEVEL),
            clean(str(record.name)),
            text_of(record),
        )
        if self._waiting is None:
            self._waiting = deque(maxlen=MOST_WAITING)
        if len(self._waiting) == MOST_WAITING:
            self._lost += 1
        self._waiting.append(line)
        self.soon()

    def take(self) -> list[Line]:
        """The lines since the last time, for the store."""
        waiting = self._waiting
        if not waiting:
            return []
        # One by one: a thread may be appending.
        lines = [waiting.popleft() for _ in range(len(waiting))]
        if self._lost:
            # The notice takes the place of a line, which is lost as well.
            text = f"{self._lost + 1} lines were logged faster than they could be kept"
            lines[0] = lines[0]._replace(level=logging.WARNING, logger="inloop", text=text)
            self._lost = 0
        return lines

    def put_back(self, lines: list[Line]) -> None:
        """The store could not take them: keep the newest that fit."""
        if self._waiting is None:
            self._waiting = deque(maxlen=MOST_WAITING)
        room = MOST_WAITING - len(self._waiting)
        self._lost += max(0, len(lines) - room)
        self._waiting.extendleft(reversed(lines[max(0, len(lines) - room) :]))


def text_of(record: logging.LogRecord) -> str:
    """The text of a record, cut to 8 KiB of UTF-8. Never raises: logging must not fail a task."""
    try:
        text = record.getMessage()
    except Exception as error:
        text = f"{_shown(record.msg)} % {_shown(record.args)}: {type(error).__name__}"
    if record.exc_info and record.exc_info[0] is not None:
        try:
            text += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
        except Exception as error:
            text += f"\n<its traceback cannot be shown: {type(error).__name__}>"
    if record.stack_info:
        text += f"\n{record.stack_info}"
    return clean(text)


def _shown(value: object) -> str:
    try:
        return repr(value)
    except Exception as error:
        return f"<{type(value).__name__}, whose repr() raised {type(error).__name__}>"


def clean(text: str) -> str:
    """Text that UTF-8 can hold, cut to 8 KiB."""
    raw = text.encode("utf-8", "backslashreplace")
    if len(raw) > MOST_BYTES:
        return raw[: MOST_BYTES - len(CUT.encode())].decode("utf-8", "ignore") + CUT
    return raw.decode()


# The log of the task that this context runs in.
current: ContextVar[TaskLog | None] = ContextVar("inloop_task_log", default=None)

Factory = Callable[..., logging.LogRecord]


class Gathering:
    """The record factory of this process, replaced while at least one manager is open."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._before: Factory | None = None
        self._ours: Factory | None = None
        self._level = logging.NOTSET

    def begin(self, level: int) -> None:
        """One more manager is open."""
        with self._lock:
            self._users += 1
            self._open_log(max(level, 1))
            if self._users == 1 and logging.getLogRecordFactory() is not self._ours:
                self._before = before = logging.getLogRecordFactory()
                self._ours = self._factory_over(before)
                logging.setLogRecordFactory(self._ours)

    def _open_log(self, level: int) -> None:
        # A level that the host has set itself stays.
        if log.level in (logging.NOTSET, self._level):
            self._level = level if self._level == logging.NOTSET else min(level, self._level)
            log.setLevel(self._level)

    def end(self) -> None:
        """One manager less; the last one gives the factory back, unless others built on ours."""
        with self._lock:
            self._users -= 1
            if self._users:
                return
            if logging.getLogRecordFactory() is self._ours:
                assert self._before is not None
                logging.setLogRecordFactory(self._before)
            self._ours = None
            if log.level == self._level:
                log.setLevel(logging.NOTSET)
            self._level = logging.NOTSET

    def _factory_over(self, before: Factory) -> Factory:
        def factory(*args: object, **kwargs: object) -> logging.LogRecord:
            record = before(*args, **kwargs)
            task_log = current.get()
            # One that others have built upon cannot be taken out of the chain: it falls silent.
            if task_log is not None and self._ours is factory and record.levelno >= task_log.level:
                task_log.add(record)
            return record

        return factory


gathering = Gathering()
