"""What becomes a task's log: every record made inside it, as it was made, and nothing else."""

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

import inloop
from inloop import LogLine, TaskManager
from inloop._logs import CUT, MOST_BYTES, MOST_WAITING, TaskLog, text_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """A logger of the app's, which lets everything through."""
    logger = logging.getLogger("app.tests")
    logger.setLevel(logging.DEBUG)
    yield logger
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


async def lines_of(tasks: TaskManager, work: Callable[[], object]) -> list[LogLine]:
    """Run `work` as a task of its own, and read its log."""

    @tasks.task(name=f"work {id(work)}")
    async def run() -> None:
        result = work()
        if asyncio.iscoroutine(result):
            await result

    async with AsyncExitStack() as stack:
        if not tasks._accepts:
            await stack.enter_async_context(tasks)
        handle = await run.enqueue()
        await handle
        return await tasks.logs(handle.id)


async def texts_of(tasks: TaskManager, work: Callable[[], object]) -> list[str]:
    """The texts alone."""
    return [line.text for line in await lines_of(tasks, work)]


# ---- which records


async def test_a_record_is_kept_as_it_was_made(tasks: TaskManager, log: logging.Logger) -> None:
    """Text, level, logger and attempt are those of the call."""
    (line,) = await lines_of(tasks, lambda: log.warning("%d of %s", 3, "ten"))
    assert (line.text, line.level, line.logger) == ("3 of ten", logging.WARNING, "app.tests")
    assert line.attempt == 1


async def test_lines_come_in_their_order(tasks: TaskManager, log: logging.Logger) -> None:
    """The first line logged is the first line read, and `n` rises."""

    def work() -> None:
        for n in range(300):
            log.info("%d", n)

    lines = await lines_of(tasks, work)
    assert [line.text for line in lines] == [str(n) for n in range(300)]
    assert [line.n for line in lines] == sorted({line.n for line in lines})


async def test_a_line_is_read_while_the_task_runs(tasks: TaskManager, log: logging.Logger) -> None:
    """A log is live: its lines are stored long before the task ends."""
    may_end = asyncio.Event()

    @tasks.task
    async def work() -> None:
        log.info("begun")
        await may_end.wait()

    async with tasks, asyncio.timeout(10):
        handle = await work.enqueue()
        while not await tasks.logs(handle.id):
            await asyncio.sleep(0.01)
        may_end.set()
        await handle


async def test_the_least_level_is_capture_logs(path: Path, log: logging.Logger) -> None:
    """Records below `capture_logs` are not kept; those at it are."""

    def work() -> None:
        for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
            log.log(level, logging.getLevelName(level))

    assert await texts_of(TaskManager(path, capture_logs=logging.WARNING), work) == [
        "WARNING",
        "ERROR",
    ]


async def test_a_record_that_the_logger_does_not_make_is_no_line(
    tasks: TaskManager, log: logging.Logger
) -> None:
    """A logger's own level goes before `capture_logs`, for below it there is no record."""
    log.setLevel(logging.ERROR)
    assert await texts_of(tasks, lambda: log.warning("unheard")) == []


async def test_inloop_log_needs_no_set_up(tasks: TaskManager) -> None:
    """`inloop.log` makes records at level `capture_logs` where the host has set up nothing."""
    assert logging.getLogger("inloop.task").getEffectiveLevel() == logging.WARNING
    assert await texts_of(tasks, lambda: inloop.log.info("heard")) == ["heard"]
    assert await texts_of(tasks, lambda: inloop.log.debug("not heard")) == []


@pytest.mark.parametrize("level", [logging.DEBUG, 1, 0])
async def test_inloop_log_follows_capture_logs(path: Path, level: int) -> None:
    """With a lower `capture_logs` its finer lines are kept too; 0 keeps all."""
    tasks = TaskManager(path, capture_logs=level)
    assert await texts_of(tasks, lambda: inloop.log.debug("fine")) == ["fine"]


async def test_inloop_log_keeps_a_level_of_the_hosts(tasks: TaskManager) -> None:
    """A level that the host has given the logger is there again after closing."""
    inloop.log.setLevel(logging.ERROR)
    try:
        async with tasks:
            pass
        assert inloop.log.level == logging.ERROR
    finally:
        inloop.log.setLevel(logging.NOTSET)


async def test_a_logger_that_does_not_propagate_is_heard(
    tasks: TaskManager, log: logging.Logger
) -> None:
    """`propagate=False` hides records from the root's handlers, not from the task's log."""
    log.propagate = False
    assert await texts_of(tasks, lambda: log.info("heard")) == ["heard"]


async def test_a_record_from_outside_a_task_is_not_taken(
    tasks: TaskManager, log: logging.Logger
) -> None:
    """What the host logs beside a running task is not that task's."""
    runs, may_end = asyncio.Event(), asyncio.Event()

    @tasks.task
    async def work() -> None:
        runs.set()
        await may_end.wait()
        log.info("mine")

    async with tasks:
        handle = await work.enqueue()
        await runs.wait()
        log.error("the host's")
        may_end.set()
        await handle
        assert [line.text for line in await tasks.logs(handle.id)] == ["mine"]


async def test_each_task_has_its_own_log(tasks: TaskManager, log: logging.Logger) -> None:
    """Tasks that run side by side do not get each other's lines."""
    all_run = asyncio.Barrier(5)

    @tasks.task
    async def work(n: int) -> None:
        await all_run.wait()
        log.info("%d", n)

    async with tasks:
        handles = await work.enqueue_many([(n,) for n in range(5)])
        for n, handle in enumerate(handles):
            await handle
            assert [line.text for line in await tasks.logs(handle.id)] == [str(n)]


async def test_each_attempt_marks_its_lines(tasks: TaskManager, log: logging.Logger) -> None:
    """A retried task has one log, and each line tells its attempt."""

    @tasks.task(retry=inloop.Retry(attempts=2, backoff=lambda failures: 0.0))
    async def work() -> None:
        log.info("here")
        if inloop.current_task().attempt == 1:
            raise OSError

    async with tasks:
        handle = await work.enqueue()
        await handle
        assert [line.attempt for line in await tasks.logs(handle.id)] == [1, 2]


# ---- from where


async def test_a_plain_function_logs_from_its_thread(
    tasks: TaskManager, log: logging.Logger
) -> None:
    """A `def` task's records are its log, too."""

    @tasks.task
    def work() -> None:
        log.info("%s", threading.current_thread().name)

    async with tasks:
        handle = await work.enqueue()
        await handle
        (line,) = await tasks.logs(handle.id)
    assert line.text.startswith("inloop-")


async def test_threads_with_the_tasks_context_log_for_it(
    tasks: TaskManager, log: logging.Logger
) -> None:
    """`asyncio.to_thread`, and any thread that was given the context, belong to the task."""

    async def work() -> None:
        await asyncio.to_thread(log.info, "from a thread")

    assert await texts_of(tasks, work) == ["from a thread"]


async def test_many_threads_lose_no_line(tasks: TaskManager, log: logging.Logger) -> None:
    """Eight threads that log at once for one task: every line is there, once."""

    def work() -> None:
        context = contextvars.copy_context()

        def write(part: int) -> None:
            for n in range(200):
                log.info("%d", 200 * part + n)

        threads = [
            threading.Thread(target=context.copy().run, args=(write, part)) for part in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    @tasks.task
    def run() -> None:
        work()

    async with tasks:
        handle = await run.enqueue()
        await handle
        lines = await tasks.logs(handle.id, limit=10_000)
    assert sorted(int(line.text) for line in lines) == list(range(1600))


async def test_two_managers_keep_their_tasks_logs_apart(
    tmp_path: Path, log: logging.Logger
) -> None:
    """Two open managers: each task's lines go to its own store, once, by its manager's level."""
    one = TaskManager(tmp_path / "one.db", capture_logs=logging.DEBUG)
    other = TaskManager(tmp_path / "other.db", capture_logs=logging.ERROR)

    def work() -> None:
        log.debug("fine")
        log.error("grave")

    async with one, other:
        assert await texts_of(one, work) == ["fine", "grave"]
        assert await texts_of(other, work) == ["grave"]


async def test_gathering_goes_on_until_the_last_manager_closes(
    tmp_path: Path, log: logging.Logger
) -> None:
    """Closing one of two managers does not deafen the other."""
    one, other = TaskManager(tmp_path / "one.db"), TaskManager(tmp_path / "other.db")
    async with one:
        async with other:
            pass
        assert await texts_of(one, lambda: log.info("heard")) == ["heard"]


# ---- what is in a line


def record(message: object, *args: object, **more: object) -> logging.LogRecord:
    """A record as a logger makes it."""
    made = logging.LogRecord("app", logging.INFO, "file.py", 1, message, args, None)
    vars(made).update(more)
    return made


@pytest.mark.parametrize("letter", ["x", "é", "語", "😀"])
def test_a_line_has_at_most_8_kib(letter: str) -> None:
    """A longer one is cut between two characters, and says so."""
    text = text_of(record(letter * 20_000))
    assert MOST_BYTES - 4 <= len(text.encode()) <= MOST_BYTES == 8192
    assert text == letter * (len(text) - len(CUT)) + CUT


def test_a_line_of_exactly_8_kib_is_whole() -> None:
    """The limit itself is still allowed."""
    assert text_of(record("x" * MOST_BYTES)) == "x" * MOST_BYTES


class Broken:
    """A value that cannot be shown."""

    def __repr__(self) -> str:
        raise ValueError("no text for you")


@pytest.mark.parametrize(
    ("message", "args", "told"),
    [
        ("%d rows", ("many",), "%d rows"),
        ("%s of %s", (1,), "%s of %s"),
        ("no place", (1,), "no place"),
        ("%s", (Broken(),), "%s"),
        (Broken(), (), "ValueError"),
    ],
    ids=["type", "missing", "extra", "unprintable", "unprintable message"],
)
def test_a_wrong_format_is_told_and_not_raised(
    message: object, args: tuple[object, ...], told: str
) -> None:
    """The line holds the format as it stands, and what is wrong with it."""
    text = text_of(record(message, *args))
    assert told in text
    assert "Error" in text


async def test_a_wrong_format_does_not_fail_the_task(
    tasks: TaskManager, log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake in a logging call is no mistake of the task, as in plain logging."""
    monkeypatch.setattr(logging, "raiseExceptions", False)
    log.propagate = False  # pytest's own handler would raise
    texts = await texts_of(tasks, lambda: log.info("%s", Broken()))
    assert len(texts) == 1


async def test_an_exception_is_logged_with_its_traceback(
    tasks: TaskManager, log: logging.Logger
) -> None:
    """`log.exception` keeps message, traceback, and the exception's causes."""

    def work() -> None:
        try:
            try:
                raise KeyError("inner")
            except KeyError as error:
                raise OSError("outer") from error
        except OSError:
            log.exception("it broke")

    (text,) = await texts_of(tasks, work)
    assert text.startswith("it broke\nTraceback")
    assert "KeyError: 'inner'" in text
    assert text.endswith("OSError: outer")


async def test_a_stack_is_logged_where_it_is_asked_for(
    tasks: TaskManager, log: logging.Logger
) -> None:
    """`stack_info=True` is in the line, as every formatter of logging has it."""
    (text,) = await texts_of(tasks, lambda: log.info("here", stack_info=True))
    assert text.startswith("here\nStack (most recent call last):")


def test_an_exception_without_one_adds_nothing() -> None:
    """`exc_info=True` outside an `except` has nothing to tell."""
    assert text_of(record("fine", exc_info=(None, None, None))) == "fine"


@pytest.mark.parametrize("text", ["\ud800", "nul \0 here", "😀", "", "two\nlines"])
async def test_any_text_can_be_a_line(tasks: TaskManager, log: logging.Logger, text: str) -> None:
    """Lone surrogates are escaped, everything else is kept as it is."""
    log.propagate = False  # the terminal has its own trouble with such text
    expected = text.encode("utf-8", "backslashreplace").decode()
    assert await texts_of(tasks, lambda: log.info(text)) == [expected]


async def test_odd_names_and_levels_harm_nobody(tasks: TaskManager) -> None:
    """A logger's name with a lone surrogate, a level beyond 64 bits: the line is stored."""
    odd = logging.getLogger("app.\ud800")
    odd.propagate = False

    def work() -> None:
        odd.log(10**30, "high")
        odd.error("named")

    assert await texts_of(tasks, work) == ["high", "named"]


async def test_a_message_that_changes_later_is_kept_as_it_was(
    tasks: TaskManager, log: logging.Logger
) -> None:
    """The text is made at the call, not when it is stored."""
    rows: list[int] = []

    def work() -> None:
        log.info("%s", rows)
        rows.append(1)

    assert await texts_of(tasks, work) == ["[]"]


# ---- how many


def fill(task_log: TaskLog, n: int) -> None:
    """Log the numbers up to n."""
    for i in range(n):
        task_log.add(record(str(i)))


def test_ten_thousand_lines_wait_without_loss() -> None:
    """So many may be logged between two writes."""
    task_log = TaskLog(1, 1, logging.INFO)
    fill(task_log, MOST_WAITING)
    assert [one.text for one in task_log.take()] == [str(n) for n in range(10_000)]
    assert task_log.take() == []


def test_beyond_that_the_oldest_give_way_and_are_counted() -> None:
    """A notice stands first and tells exactly how many lines are missing; the newest are there."""
    task_log = TaskLog(1, 1, logging.INFO)
    fill(task_log, MOST_WAITING + 500)
    notice, *kept = task_log.take()
    assert (notice.level, notice.logger) == (logging.WARNING, "inloop")
    assert int(notice.text.split()[0]) + len(kept) == 10_500
    assert kept[-1].text == "10499"
    assert 1 + len(kept) <= MOST_WAITING


def test_the_notice_comes_once() -> None:
    """What is logged after it is complete again."""
    task_log = TaskLog(1, 1, logging.INFO)
    fill(task_log, MOST_WAITING + 1)
    task_log.take()
    fill(task_log, 3)
    assert [one.text for one in task_log.take()] == ["0", "1", "2"]


def test_lines_that_could_not_be_stored_come_back_first() -> None:
    """They keep their place before what was logged meanwhile."""
    task_log = TaskLog(1, 1, logging.INFO)
    fill(task_log, 3)
    taken = task_log.take()
    fill(task_log, 2)
    task_log.put_back(taken)
    assert [one.text for one in task_log.take()] == ["0", "1", "2", "0", "1"]


def test_lines_that_come_back_may_find_no_room() -> None:
    """Then the oldest give way, and are counted like all others."""
    task_log = TaskLog(1, 1, logging.INFO)
    fill(task_log, MOST_WAITING)
    taken = task_log.take()
    fill(task_log, 100)
    task_log.put_back(taken)
    notice, *kept = task_log.take()
    assert int(notice.text.split()[0]) + len(kept) == 10_100
    assert [one.text for one in kept[-2:]] == ["98", "99"]


def test_a_log_that_says_nothing_costs_nothing() -> None:
    """Most tasks never log: no queue is made for them."""
    task_log = TaskLog(1, 1, logging.INFO)
    assert task_log.take() == []
    assert task_log._waiting is None
