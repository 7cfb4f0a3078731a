"""The host's logging behaves as if inloop were not there: compared in processes of their own.

Each snippet is what a host does. It is run twice, once beside an open manager and from within a
task, once without inloop; both must write exactly the same.
"""

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from inloop import TaskManager

pytestmark = pytest.mark.anyio

LAST_RESORT = """
log.info("not shown")
log.warning("shown by the last resort")
logging.getLogger().error("and from the root")
"""

BASIC_CONFIG = """
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
log.debug("not shown")
log.info("shown")
"""

SECOND_BASIC_CONFIG = """
logging.basicConfig(level=logging.ERROR, format="first %(message)s")
logging.basicConfig(level=logging.INFO, format="second %(message)s")
log.info("not shown")
log.error("shown")
"""

DICT_CONFIG = """
import logging.config
logging.config.dictConfig({
    "version": 1,
    "formatters": {"short": {"format": "%(levelname)s|%(name)s|%(message)s"}},
    "handlers": {"out": {
        "class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "short",
    }},
    "root": {"level": "INFO", "handlers": ["out"]},
    "loggers": {"app.new": {"level": "DEBUG"}},
})
log.info("disabled, for it was there before")
logging.getLogger("app.new").debug("shown")
logging.getLogger("other").info("shown")
"""

NOT_PROPAGATED = """
logging.basicConfig(format="root: %(message)s")
handler = logging.StreamHandler(sys.stdout)
handler.setFormatter(logging.Formatter("own: %(message)s"))
log.addHandler(handler)
log.propagate = False
log.warning("to its own handler only")
"""

NULL_HANDLER = """
log.addHandler(logging.NullHandler())
log.warning("a library's, not shown")
"""

FILTERED = """
logging.basicConfig(format="%(message)s %(extra_one)s %(funcName)s %(lineno)d")
class Add(logging.Filter):
    def filter(self, record):
        record.extra_one = "added"
        return "secret" not in record.msg
log.addFilter(Add())
def call():
    log.warning("shown")
    log.warning("secret")
    log.warning("with %s", "arguments", extra={"more": 1})
call()
"""

BROKEN_FORMAT = """
logging.basicConfig(format="%(message)s")
logging.raiseExceptions = False
log.warning("%d", "not a number")
log.warning("goes on")
"""

EXCEPTION = """
logging.basicConfig(format="%(message)s")
try:
    raise KeyError("gone")
except KeyError:
    log.exception("failed")
"""

FACTORY = """
before = logging.getLogRecordFactory()
def factory(*args, **kwargs):
    record = before(*args, **kwargs)
    record.request = "r1"
    return record
logging.setLogRecordFactory(factory)
logging.basicConfig(format="%(request)s %(message)s")
log.warning("with the host's own attribute")
"""

DISABLED = """
logging.basicConfig(format="%(message)s")
logging.disable(logging.WARNING)
log.warning("not shown")
log.error("shown")
"""

SNIPPETS = {
    "last resort": LAST_RESORT,
    "basicConfig": BASIC_CONFIG,
    "second basicConfig": SECOND_BASIC_CONFIG,
    "dictConfig": DICT_CONFIG,
    "propagate=False": NOT_PROPAGATED,
    "NullHandler": NULL_HANDLER,
    "filters and extra": FILTERED,
    "broken format": BROKEN_FORMAT,
    "exception": EXCEPTION,
    "record factory": FACTORY,
    "disable": DISABLED,
}

# The snippet is compiled from the same text in all programs, so that line numbers agree.
BEGIN = """
import asyncio, logging, sys
log = logging.getLogger("app")
snippet = compile(sys.argv[1], "host.py", "exec")
def host():
    exec(snippet, globals())
"""

ALONE = f"""{BEGIN}
host()
"""

BESIDE = f"""{BEGIN}
from inloop import TaskManager
tasks = TaskManager("app.db")
async def main():
    async with tasks:
        host()
asyncio.run(main())
"""

WITHIN = f"""{BEGIN}
from inloop import TaskManager
tasks = TaskManager("app.db")
@tasks.task
async def work():
    host()
async def main():
    async with tasks:
        await (await work.enqueue())
asyncio.run(main())
"""


def start(program: str, snippet: str, folder: Path) -> "subprocess.Popen[str]":
    """Start a program in a folder of its own."""
    folder.mkdir()
    return subprocess.Popen(
        [sys.executable, "-c", program, snippet],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("name", SNIPPETS)
def test_the_hosts_logging_writes_the_same(name: str, tmp_path: Path) -> None:
    """After opening, beside inloop and within a task, every set-up behaves as without inloop."""
    programs = (ALONE, BESIDE, WITHIN)
    started = [start(one, SNIPPETS[name], tmp_path / str(n)) for n, one in enumerate(programs)]
    alone, beside, within = [(*one.communicate(timeout=15), one.returncode) for one in started]
    assert alone[2] == 0, alone
    assert beside == alone
    assert within == alone


def test_the_snippets_do_write() -> None:
    """The comparison above compares something: each host but one shows a line."""
    assert [name for name, text in SNIPPETS.items() if "shown" not in text and "warn" in text] == [
        "propagate=False", "broken format", "record factory",
    ]  # fmt: skip


# ---- record factories, one on another


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """A logger of the app's."""
    logger = logging.getLogger("app.factories")
    logger.setLevel(logging.INFO)
    yield logger
    logger.setLevel(logging.NOTSET)


@pytest.fixture
def factory_is_reset() -> Iterator[None]:
    """A test that sets a factory of its own does not leave it behind."""
    before = logging.getLogRecordFactory()
    yield
    logging.setLogRecordFactory(before)


class Shouting(logging.LogRecord):
    """A host's own kind of record."""

    def getMessage(self) -> str:
        return super().getMessage().upper()


async def logged(tasks: TaskManager, log: logging.Logger) -> list[str]:
    """What a task of this manager gets into its log."""

    @tasks.task
    async def work() -> None:
        log.info("heard")

    handle = await work.enqueue()
    await handle
    return [line.text for line in await tasks.logs(handle.id)]


@pytest.mark.usefixtures("factory_is_reset")
async def test_a_factory_from_before_is_used(tasks: TaskManager, log: logging.Logger) -> None:
    """Ours calls the one that it found, and gives it back at the end."""
    logging.setLogRecordFactory(Shouting)
    async with tasks:
        assert await logged(tasks, log) == ["HEARD"]
    assert logging.getLogRecordFactory() is Shouting


def chained() -> list[logging.LogRecord]:
    """Put a factory of the host's on top of the present one; the records that it made."""
    below = logging.getLogRecordFactory()
    made: list[logging.LogRecord] = []

    def factory(*args: object, **kwargs: object) -> logging.LogRecord:
        record = below(*args, **kwargs)
        made.append(record)
        return record

    logging.setLogRecordFactory(factory)
    return made


@pytest.mark.usefixtures("factory_is_reset")
async def test_a_factory_from_after_may_build_on_ours(
    tasks: TaskManager, log: logging.Logger
) -> None:
    """A host that chains its own on top of ours is heard, and keeps its own after closing."""
    async with tasks:
        made = chained()
        assert await logged(tasks, log) == ["heard"]
        on_top = logging.getLogRecordFactory()
    assert logging.getLogRecordFactory() is on_top
    log.info("after closing")
    assert made[-1].getMessage() == "after closing"


@pytest.mark.usefixtures("factory_is_reset")
async def test_opening_again_below_such_a_factory_hears_each_line_once(
    tasks: TaskManager, log: logging.Logger
) -> None:
    """Ours is in the chain still; a second one on top must not take every line again."""
    async with tasks:
        chained()
    for _ in range(2):
        async with tasks:
            assert await logged(tasks, log) == ["heard"]


@pytest.mark.usefixtures("factory_is_reset")
async def test_a_factory_that_replaces_ours_is_the_hosts_decision(
    tasks: TaskManager, log: logging.Logger
) -> None:
    """Then nothing is gathered, nothing breaks, and the next opening hears again."""
    async with tasks:
        logging.setLogRecordFactory(Shouting)
        assert await logged(tasks, log) == []
    async with tasks:
        assert await logged(tasks, log) == ["HEARD"]


async def test_no_handler_is_ever_added(tasks: TaskManager) -> None:
    """The root logger's handlers, and those of inloop's own loggers, are the host's."""
    loggers = [logging.getLogger(name) for name in ("", "inloop", "inloop.task")]
    before = [list(logger.handlers) for logger in loggers]
    async with tasks:
        assert [list(logger.handlers) for logger in loggers] == before
