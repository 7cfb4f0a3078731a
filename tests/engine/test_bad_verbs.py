"""Arguments of verbs that cannot be meant: refused at the call, by name."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from inloop import TaskManager
from inloop.testing import FakeClock

pytestmark = pytest.mark.anyio


# ---- verbs

Verb = Callable[[TaskManager], Any]


@pytest.mark.parametrize(
    ("verb", "error", "told"),
    [
        (lambda t: t.get(7), TypeError, r"id=7: must be text"),
        (lambda t: t.cancel(None), TypeError, r"id=None"),
        (lambda t: t.get(""), ValueError, r"id=''"),
        (lambda t: t.get("\ud800"), ValueError, r"lone surrogates"),
        (lambda t: t.find(state="broken"), ValueError, r"state='broken': the states are"),
        (lambda t: t.find(state=7), (TypeError, ValueError), r"state=7"),
        (lambda t: t.find(limit=0), ValueError, r"limit=0: must be 1 to 1,?000"),
        (lambda t: t.find(limit=1001), ValueError, r"limit=1001"),
        (lambda t: t.find(limit="10"), TypeError, r"limit='10'"),
        (lambda t: t.find(cursor="abc"), ValueError, r"cursor='abc'.*`next` of an earlier page"),
        (lambda t: t.find(cursor=7), (TypeError, ValueError), r"cursor=7"),
        (lambda t: t.find(since=datetime(2026, 1, 1)), ValueError, r"since=.*no time zone"),
        (lambda t: t.find(until="now"), TypeError, r"until='now'"),
        (lambda t: t.find(name=7), TypeError, r"name=7"),
        (lambda t: t.find(text=""), ValueError, r"text=''"),
        (lambda t: t.reschedule("x", datetime(2026, 1, 1)), ValueError, r"at=.*no time zone"),
        (lambda t: t.reschedule("x", 60), TypeError, r"at=60"),
        (lambda t: t.pause_queue(""), ValueError, r"name=''"),
        (lambda t: t.pause_queue(None), TypeError, r"name=None"),
        (lambda t: t.pause_queue("a", datetime(2026, 1, 1)), ValueError, r"until=.*no time zone"),
        (
            lambda t: t.pause_queue("a", datetime(2020, 1, 1, tzinfo=UTC)),
            ValueError,
            r"until=.*past",
        ),
        (lambda t: t.pause_all(60), TypeError, r"until=60"),
        (lambda t: t.set_queue("a", concurrency=-1), ValueError, r"concurrency=-1"),
        (lambda t: t.set_queue("a", concurrency="3"), TypeError, r"concurrency='3'"),
        (lambda t: t.cancel("x", actor=""), ValueError, r"actor=''"),
        (lambda t: t.cancel("x", actor=None), TypeError, r"actor=None"),
        (lambda t: t.cancel("x", reason=7), TypeError, r"reason=7"),
        (lambda t: t.prune(datetime(2026, 1, 1)), ValueError, r"before=.*no time zone"),
        (lambda t: t.drain(-1), ValueError, r"timeout=-1"),
        (lambda t: t.drain("soon"), TypeError, r"timeout='soon'"),
        (lambda t: t.handle("x").result(-1), ValueError, r"timeout=-1"),
        (lambda t: t.handle("x").result("soon"), TypeError, r"timeout='soon'"),
        (lambda t: t.logs("x", limit=-1), ValueError, r"limit=-1"),
        (lambda t: t.logs("x", after="1"), TypeError, r"after='1'"),
        (lambda t: t.audit(limit=0), ValueError, r"limit=0"),
        (lambda t: t.audit(before="1"), TypeError, r"before='1'"),
        (lambda t: t.recoveries(limit=-1), ValueError, r"limit=-1"),
        (lambda t: t.take_over(7), TypeError, r"owner_id=7"),
    ],
)
async def test_what_verbs_refuse(
    tasks: TaskManager, verb: Verb, error: type[Exception], told: str
) -> None:
    """At the call: the parameter, the value, and what it must be."""
    async with tasks:
        with pytest.raises(error, match=told):
            await verb(tasks)


def test_a_handle_needs_an_id(tasks: TaskManager) -> None:
    """Text."""
    with pytest.raises(TypeError, match="id=7: must be text"):
        tasks.handle(7)  # type: ignore[call-overload] # on purpose


# ---- the clock for tests


async def test_time_does_not_go_back(clock: FakeClock) -> None:
    """Nor does it start without a time zone."""
    with pytest.raises(ValueError, match=r"by=-1.*0 or more"):
        await clock.advance(-1)
    with pytest.raises(ValueError, match=r"start=.*no time zone"):
        FakeClock(datetime(2026, 1, 1))


def test_log_levels_may_be_names(path: Path) -> None:
    """`capture_logs="INFO"` works as logging's own levels do."""
    assert TaskManager(path, capture_logs="INFO")._settings.capture_logs == logging.INFO
