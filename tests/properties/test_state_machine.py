"""Any sequence of verbs, time and crashes: inloop does what a small model of its promises does.

The real manager on the real store, on a clock that obeys. After every step each task's state,
attempts, failures and deaths equal the model's, its history is legal, counters are exact, and no
two unfinished tasks share a key.

`INLOOP_PROPERTIES=10000` runs that many random examples, instead of a few that are always the same.
"""

import asyncio
import os
import sqlite3
import tempfile
from collections import Counter, defaultdict
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from reference_model import (
    BACKOFF,
    CONCURRENCY,
    KEPT_DELETED,
    LIMITS,
    SNOOZE,
    TIMEOUT,
    TRIES,
    Model,
    Plan,
    Refused,
)

from inloop import (
    GiveUp,
    IllegalMove,
    Queue,
    Retry,
    Snooze,
    State,
    TaskManager,
    current_task,
    testing,
)
from inloop._model import ENTRY, is_legal
from inloop.testing import FakeClock, crash, running

T = TypeVar("T")

EXAMPLES = int(os.environ.get("INLOOP_PROPERTIES", "0"))

plans: st.SearchStrategy[Plan] = st.sampled_from(
    ["block", "block", "block", "block", "ok", "fail", "flaky", "give up", "snooze"]
)
functions = st.sampled_from(["rerun", "rerun", "rerun", "fail", "hold"])
queues = st.sampled_from(["default", "default", "narrow"])
paused_queues = st.sampled_from(["", "default", "narrow"])
priorities = st.sampled_from([0, 0, 5])
delays = st.sampled_from([0, 0, 0, 10, 70])
keys = st.sampled_from([None, None, None, None, "a", "b"])


class Inloop(RuleBasedStateMachine):
    """One store, opened again and again, beside its model."""

    ids: Bundle[str] = Bundle("ids")
    root: Path

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.clock = FakeClock()
        self.runner = asyncio.Runner()
        self.path = Path(tempfile.mkdtemp(dir=self.root)) / "tasks.db"
        self.seen = sqlite3.connect(self.path)
        self.may_end: dict[str, asyncio.Event] = {}
        self.stack = AsyncExitStack()
        self.tasks = TaskManager(
            self.path,
            concurrency=CONCURRENCY,
            queues={name: Queue(concurrency=n) for name, n in LIMITS.items()},
            durability="normal",
            retention=None,
            max_lag=3600,  # however busy this machine is
        )
        self.functions = {name: self.declare(name) for name in ("rerun", "fail", "hold")}

    def declare(self, on_crash: Any) -> Any:
        @self.tasks.task(
            name=on_crash,
            on_crash=on_crash,
            retry=Retry(attempts=TRIES, backoff=lambda failures: BACKOFF),
            timeout=TIMEOUT,
        )
        async def work(plan: Plan) -> None:
            me = current_task()
            if plan == "fail" or (plan == "flaky" and me.failures == 0):
                raise OSError(plan)
            if plan == "give up":
                raise GiveUp
            if plan == "snooze" and me.attempt % 2:
                raise Snooze(SNOOZE)
            if plan == "block":
                self.may_end[me.id] = asyncio.Event()
                await self.may_end[me.id].wait()

        return work

    # ---- the process

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Drive the loop until the work is done."""
        return self.runner.run(work)

    @initialize()
    def begin(self) -> None:
        self.run(self.open())

    async def open(self) -> None:
        """Open, and wait until all that was left behind is recovered."""
        await self.stack.enter_async_context(running(self.tasks, clock=self.clock))
        async with asyncio.timeout(10):
            while [owner.me for owner in await self.tasks.owners()] != [True] or self.orphans():
                await asyncio.sleep(0.002)

    async def pause(self, queue: str, until: int | None) -> None:
        """Pause a queue, or ("") everything, until an instant of the model's."""
        left = None if until is None else timedelta(seconds=until - self.model.now)
        end = None if left is None else self.clock.time + left
        await (self.tasks.pause_queue(queue, end) if queue else self.tasks.pause_all(end))

    def orphans(self) -> int:
        """Tasks that belong to nobody who is there."""
        ((n,),) = self.rows(
            "select count(*) from inloop_task as t join inloop_owner as o on o.n = t.owner "
            "where o.closed is not null"
        )
        return int(n)

    async def rest(self) -> None:
        """Let everything happen that can happen now."""
        await self.clock.advance(0)
        self.model.settle()

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.runner.close()
        self.seen.close()

    @rule(dies=st.sampled_from([True, True, False]))
    def open_again(self, dies: bool) -> None:
        """The process dies, or ends in good order, and another one takes its place."""

        async def work() -> None:
            # Recovery never delays a start: were it not for this pause, what is queued might
            # begin before what is recovered, or after it.
            await self.tasks.pause_all()
            if dies:
                await crash(self.tasks)
            await self.stack.aclose()
            self.model.leave(died=dies)
            await self.open()
            if "" in self.model.pauses:
                await self.pause("", self.model.pauses[""])
            else:
                await self.tasks.resume_all()
            await self.rest()

        self.run(work())

    @rule(seconds=st.sampled_from([1, 10, 30, 60, 290, 400]))
    def advance(self, seconds: int) -> None:
        async def work() -> None:
            await self.clock.advance(seconds)
            self.model.advance(seconds)

        self.run(work())

    # ---- new tasks

    @rule(
        target=ids,
        function=functions,
        plan=plans,
        queue=queues,
        priority=priorities,
        delay=delays,
        key=keys,
    )
    def enqueue(
        self, function: str, plan: Plan, queue: str, priority: int, delay: int, key: str | None
    ) -> str:
        async def work() -> str:
            holder = self.model.holder(function, key)
            used = self.functions[function].using(
                queue=queue, priority=priority, delay=delay, key=key
            )
            handle = await used.enqueue(plan)
            assert handle.created == (holder is None)
            if holder is None:
                self.model.enqueue(handle.id, function, plan, queue, priority, delay, key)
            else:
                assert handle.id == holder
            await self.rest()
            return str(handle.id)

        return self.run(work())

    @rule(target=ids, several=st.lists(st.tuples(plans, priorities), min_size=2, max_size=5))
    def enqueue_many(self, several: list[tuple[Plan, int]]) -> Any:
        async def work() -> list[str]:
            function = self.functions["rerun"]
            calls = [function.using(priority=priority).call(plan) for plan, priority in several]
            handles = await function.enqueue_many(calls)
            for handle, (plan, priority) in zip(handles, several, strict=True):
                self.model.enqueue(handle.id, "rerun", plan, "default", priority, 0, None)
            await self.rest()
            return [handle.id for handle in handles]

        return multiple(*self.run(work()))

    # ---- control of one task

    @rule(id_=ids, verb=st.sampled_from(["pause", "resume", "cancel"]))
    def control(self, id_: str, verb: str) -> None:
        self.ask(id_, verb)

    @rule(id_=ids, verb=st.sampled_from(["retry", "retry", "fail", "delete", "restore"]))
    def control_ended(self, id_: str, verb: str) -> None:
        self.ask(id_, verb)

    @rule(id_=ids, delay=delays)
    def reschedule(self, id_: str, delay: int) -> None:
        at = self.clock.time + timedelta(seconds=delay) if delay else None
        self.ask(id_, "reschedule", (at,), (delay,))

    def ask(
        self, id_: str, verb: str, real: tuple[Any, ...] = (), modelled: tuple[Any, ...] = ()
    ) -> None:
        """The same verb on both: the same answer, or both refuse."""

        async def work() -> None:
            task = self.model.tasks.get(id_)
            if task is None:
                return  # it was deleted a minute ago or more, and may have been pruned
            try:
                expected = getattr(self.model, verb)(task, *modelled)
            except Refused:
                with pytest.raises(IllegalMove):
                    await getattr(self.tasks, verb)(id_, *real)
            else:
                answer = await getattr(self.tasks, verb)(id_, *real)
                assert expected is None or answer is expected
            await self.rest()

        self.run(work())

    @rule(id_=ids)
    def release(self, id_: str) -> None:
        """Let a task that blocks return."""

        async def work() -> None:
            task = self.model.tasks.get(id_)
            if task is not None and task.state == "running":
                self.may_end[id_].set()
                self.model.release(task)
                await self.rest()

        self.run(work())

    # ---- control of queues

    @rule(queue=paused_queues, seconds=st.sampled_from([None, 20, 90]))
    def pause_or_resume_queue(self, queue: str, seconds: int | None) -> None:
        async def work() -> None:
            if queue in self.model.pauses:
                del self.model.pauses[queue]
                await (self.tasks.resume_queue(queue) if queue else self.tasks.resume_all())
            else:
                until = None if seconds is None else self.model.now + seconds
                self.model.pauses[queue] = until
                await self.pause(queue, until)
            await self.rest()

        self.run(work())

    # ---- what must be so after every step

    def rows(self, sql: str) -> list[Any]:
        """What is in the file, by a connection that knows nothing of inloop."""
        return self.seen.execute(sql).fetchall()

    @invariant()
    def promises_hold(self) -> None:
        self.every_task_is_as_the_model_says()
        self.every_history_is_legal()
        self.counters_are_exact()
        self.no_two_unfinished_tasks_share_a_key()

    def every_task_is_as_the_model_says(self) -> None:
        now = self.clock.now()
        found = {}
        for id_, state, attempt, failures, deaths, due, deleted in self.rows(
            "select id, state, attempt, failures, deaths, due, deleted from inloop_task"
        ):
            # A due task that no slot is free for is promoted only when one is.
            seen = "queued" if state == "scheduled" and due <= now else state
            found[id_] = (seen, attempt, failures, deaths, deleted is not None)
        expected = {
            id_: (task.state, task.attempt, task.failures, task.deaths, task.deleted is not None)
            for id_, task in self.model.tasks.items()
        }
        for id_ in found.keys() - expected.keys():
            assert found.pop(id_)[4], "only what was deleted may be unknown to the model"
        assert found == expected, {
            id_: (found.get(id_), expected.get(id_))
            for id_ in found.keys() | expected.keys()
            if found.get(id_) != expected.get(id_)
        }

    def every_history_is_legal(self) -> None:
        histories = defaultdict(list)
        for task, origin, to, attempt in self.rows(
            "select task, origin, state, attempt from inloop_event where what = 'moved' order by id"
        ):
            histories[task].append((origin, to, attempt))
        for seq, state, attempt in self.rows("select seq, state, attempt from inloop_task"):
            history = histories[seq]
            first, last = history[0], history[-1]
            assert first[0] is None
            assert State(first[1]) in ENTRY
            assert last[1:] == (state, attempt)
            for (_, before, n), (origin, to, m) in pairwise(history):
                assert origin == before
                assert is_legal(State(origin), State(to))
                begins = to == "running" and origin != "paused"
                assert m == n + begins

    def counters_are_exact(self) -> None:
        counted = Counter(
            {(queue, state): n for queue, state, n in self.rows(
                "select queue, state, sum(n) from inloop_count group by queue, state"
            )}
        )  # fmt: skip
        real = self.rows("select queue, state from inloop_task where deleted is null")
        assert +counted == Counter(real)

    def no_two_unfinished_tasks_share_a_key(self) -> None:
        held = self.rows(
            "select name, key from inloop_task where key is not null and finished is null"
        )
        assert len(held) == len(set(held))


@pytest.mark.slow
@pytest.mark.timeout(max(400, EXAMPLES))  # usually 15 s; finding the shortest failure, minutes
def test_inloop_does_what_the_model_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random steps of verbs, time, shutdowns and crashes, against the model."""
    Inloop.root = tmp_path
    monkeypatch.setattr(testing, "TURNS", 6)  # no task here waits for anything outside the loop
    assert KEPT_DELETED == 60
    run_state_machine_as_test(
        Inloop,
        settings=settings(
            max_examples=EXAMPLES or 50,
            stateful_step_count=35,
            derandomize=not EXAMPLES,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
