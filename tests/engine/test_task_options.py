"""Every option of `@tasks.task` does what the contract says."""

import asyncio
import threading
from datetime import timedelta

import pytest
from facts import Door, state

from inloop import (
    AsyncTaskFunction,
    Key,
    Retry,
    State,
    SyncTaskFunction,
    TaskCancelled,
    TaskFailed,
    TaskManager,
    current_task,
    exponential,
)
from inloop.testing import FakeClock, running, settled

pytestmark = pytest.mark.anyio


async def module_level(n: int) -> int:
    """A function as apps have them."""
    return n + 1


# ---- bare, and with options


async def test_it_may_be_bare_or_have_options(tasks: TaskManager) -> None:
    """`@tasks.task`, `@tasks.task()` and `@tasks.task(queue=…)`."""

    @tasks.task
    async def bare() -> str:
        return current_task().queue

    @tasks.task()
    async def empty() -> str:
        return current_task().queue

    @tasks.task(queue="mail")
    async def full() -> str:
        return current_task().queue

    async with tasks:
        found = [await (await function.enqueue()) for function in (bare, empty, full)]
    assert found == ["default", "default", "mail"]


def test_it_still_looks_like_the_function(tasks: TaskManager) -> None:
    """Name, module, docstring and signature, for tools that read them."""
    declared = tasks.task(module_level)
    assert declared.__name__ == "module_level"
    assert declared.__module__ == __name__
    assert declared.__doc__ == "A function as apps have them."
    assert declared.__wrapped__ is module_level
    assert isinstance(declared, AsyncTaskFunction)


async def test_a_task_function_may_be_declared_while_open(tasks: TaskManager) -> None:
    """Also one that tasks of an earlier process have been waiting for."""
    async with tasks:

        @tasks.task
        async def late() -> int:
            return 1

        assert await (await late.enqueue()) == 1


# ---- name


def test_the_name_is_the_qualified_name(tasks: TaskManager) -> None:
    """Without the module, so that moving it leaves stored tasks alone."""
    assert tasks.task(module_level).name == "module_level"
    assert tasks.task(name="plus-one")(module_level).name == "plus-one"


async def test_the_name_is_what_is_stored(tasks: TaskManager) -> None:
    """Another function under the same name takes over the tasks of the first."""

    @tasks.task(name="greet")
    async def old(name: str) -> str:
        return f"hello {name}"

    async with tasks:
        await tasks.pause_all()
        handle = await old.enqueue("ana")
    other = TaskManager(tasks.name)

    @other.task(name="greet")
    async def new(name: str) -> str:
        return f"hi {name}"

    async with other:
        await other.resume_all()
        assert await other.handle(handle.id) == "hi ana"


# ---- queue, priority, tags


async def test_queue_priority_and_tags_are_kept_with_the_task(tasks: TaskManager) -> None:
    """They can be read, and searched by."""

    @tasks.task(queue="mail", priority=7, tags=["a", "b"])
    async def send() -> None: ...

    async with tasks:
        handle = await send.enqueue()
        task = await handle.task()
        assert (task.queue, task.priority, task.tags) == ("mail", 7, ("a", "b"))
        assert [t.id for t in await tasks.find(queue="mail", tag="b")] == [handle.id]


async def test_higher_priority_runs_first(tasks: TaskManager) -> None:
    """Within the queue; among equals the one that was due first, then the one enqueued first."""
    order: list[str] = []

    @tasks.task
    async def work(name: str) -> None:
        order.append(name)

    @tasks.task(priority=5)
    async def urgent(name: str) -> None:
        order.append(name)

    one_at_a_time = TaskManager(tasks.name, concurrency=1)
    for declared in (work, urgent):
        one_at_a_time.task(name=declared.name)(declared.function)
    async with tasks:
        await tasks.pause_all()
        await work.using(priority=-1).enqueue("last")
        await work.enqueue("first of equals")
        await work.enqueue("second of equals")
        await urgent.enqueue("urgent")
        await work.using(priority=2**31).enqueue("most urgent")
    async with one_at_a_time:
        await one_at_a_time.resume_all()
        await settled(one_at_a_time)
    assert order == ["most urgent", "urgent", "first of equals", "second of equals", "last"]


# ---- retry, timeout, expires


async def test_retry_is_never_by_default(tasks: TaskManager) -> None:
    """A failure is final unless the task function says otherwise."""
    calls: list[int] = []

    @tasks.task
    async def fail() -> None:
        calls.append(1)
        raise ValueError("bad")

    async with tasks:
        with pytest.raises(TaskFailed):
            await (await fail.enqueue())
    assert calls == [1]


async def test_retry_timeout_and_expires_are_declared(tasks: TaskManager, clock: FakeClock) -> None:
    """Seconds or a timedelta; `deadline` and `expires` can be read back."""

    @tasks.task(retry=Retry(2, exponential(base=0)), timeout=30, expires=timedelta(minutes=5))
    async def work() -> None:
        deadline = current_task().deadline
        assert deadline is not None
        left.append((deadline - clock.time).total_seconds())
        raise ValueError("bad")

    left: list[float] = []
    async with running(tasks, clock=clock):
        handle = await work.enqueue()
        await clock.advance(1)
        task = await handle.task()
        assert (task.state, task.failures) == (State.FAILED, 2)
        assert task.expires == timedelta(minutes=5)
    assert left == [30, 30]


# ---- key


async def test_a_key_may_be_a_template(tasks: TaskManager) -> None:
    """Of the parameters, also by attribute, item and format."""

    @tasks.task(key="{user_id:03d}:{names[0]}:{last}")
    async def work(user_id: int, names: list[str], last: str = "x") -> None: ...

    async with tasks:
        later = work.using(delay=60)
        assert (await (await later.enqueue(7, ["ana"])).task()).key == "007:ana:x"


async def test_a_key_may_be_a_function_of_the_arguments(tasks: TaskManager) -> None:
    """With the parameters of the task function; None is no key."""

    def key_of(user_id: int, dry: bool = False) -> str | None:
        return None if dry else f"user-{user_id}"

    @tasks.task(key=key_of)
    async def work(user_id: int, dry: bool = False) -> None: ...

    async with tasks:
        later = work.using(delay=60)
        first, again = await later.enqueue(7), await later.enqueue(7)
        assert (first.created, again.created) == (True, False)
        assert (await first.task()).key == "user-7"
        dry = [await later.enqueue(7, dry=True) for _ in range(2)]
        assert all(handle.created for handle in dry)
        assert (await dry[0].task()).key is None


async def test_a_key_may_keep_answering_for_finished_tasks(
    tasks: TaskManager, clock: FakeClock
) -> None:
    """`Key(template, keep=…)`: for that long after it finished, the same task is returned."""

    @tasks.task(key=Key("invoice:{n}", keep=timedelta(days=30)))
    async def invoice(n: int) -> str:
        return f"invoice {n} of {clock.time:%d %b}"

    async with running(tasks, clock=clock):
        first = await invoice.enqueue(7)
        assert await first == "invoice 7 of 01 Jan"
        await clock.advance(timedelta(days=29))
        again = await invoice.enqueue(7)
        assert (again.created, again.id) == (False, first.id)
        assert await again == "invoice 7 of 01 Jan"
        await clock.advance(timedelta(days=2))
        later = await invoice.enqueue(7)
        assert later.created
        assert await later == "invoice 7 of 01 Feb"


async def test_without_keep_a_key_is_free_again_once_its_task_has_ended(
    tasks: TaskManager,
) -> None:
    """However it ended."""

    @tasks.task(key="only")
    async def work(fails: bool) -> None:
        if fails:
            raise ValueError("bad")

    async with tasks:
        for fails in (False, True, False):
            handle = await work.enqueue(fails)
            assert handle.created
            await settled(tasks)


async def test_a_key_is_held_in_every_unfinished_state(tasks: TaskManager) -> None:
    """Scheduled, queued, running, paused alike; the second call's arguments are ignored."""
    door = Door()

    @tasks.task(key="only")
    async def work(n: int) -> int:
        await door.pass_through()
        return n

    async with tasks:
        await tasks.pause_queue("default")
        first = await work.using(delay=0.05).enqueue(1)

        async def is_held_in(wanted: State) -> None:
            while (now := await state(tasks, first.id)) is not wanted:
                assert now is not State.FAILED
                await asyncio.sleep(0.003)
            again = await work.enqueue(2)
            assert (again.created, again.id) == (False, first.id)

        await is_held_in(State.SCHEDULED)
        await tasks.reschedule(first.id)
        await is_held_in(State.QUEUED)
        await tasks.resume_queue("default")
        await door.reached()
        await is_held_in(State.RUNNING)
        await first.pause()
        await is_held_in(State.PAUSED)
        await first.resume()
        door.open()
        assert await first == 1


async def test_keys_are_per_task_function(tasks: TaskManager) -> None:
    """Two task functions may use the same key, each for its own."""

    async def work() -> None: ...

    one, two = (tasks.task(name=name, key="only")(work) for name in ("one", "two"))
    async with tasks:
        assert (await one.using(delay=60).enqueue()).created
        assert (await two.using(delay=60).enqueue()).created


async def test_only_one_of_many_callers_creates(tasks: TaskManager) -> None:
    """However many enqueue at once with one key, there is one task, and all get it."""

    @tasks.task(key="only")
    async def work(n: int) -> int:
        await asyncio.sleep(0.05)
        return n

    async with tasks:
        handles = await asyncio.gather(*(work.enqueue(n) for n in range(50)))
        assert sum(handle.created for handle in handles) == 1
        assert len({handle.id for handle in handles}) == 1
        assert len(set(await asyncio.gather(*handles))) == 1


# ---- on_crash: see test_recovery


# ---- runs_in


async def test_async_functions_run_in_the_loop_and_plain_ones_in_threads(
    tasks: TaskManager,
) -> None:
    """`runs_in` may say so, and is what it would be anyway."""

    async def in_loop() -> int:
        return threading.get_ident()

    def in_thread() -> int:
        return threading.get_ident()

    here = threading.get_ident()
    async with tasks:
        assert await (await tasks.task(in_loop).enqueue()) == here
        assert await (await tasks.task(runs_in="loop", name="l")(in_loop).enqueue()) == here
        assert await (await tasks.task(in_thread).enqueue()) != here
        assert await (await tasks.task(runs_in="thread", name="t")(in_thread).enqueue()) != here


async def test_plain_functions_run_at_the_same_time(tasks: TaskManager) -> None:
    """Each in a thread of its own, up to the concurrency."""
    meeting = threading.Barrier(8)

    @tasks.task
    def meet() -> int:
        return meeting.wait(10)

    async with tasks:
        handles = await meet.enqueue_many([()] * 8)
        assert sorted(await asyncio.gather(*handles)) == list(range(8))


async def test_a_plain_function_calls_current_task_too(tasks: TaskManager) -> None:
    """The context goes with it into its thread."""

    @tasks.task
    def who() -> str:
        return current_task().id

    assert isinstance(who, SyncTaskFunction)
    async with tasks:
        handle = await who.enqueue()
        assert await handle == handle.id


# ---- expires, as declared


async def test_expires_counts_from_due(tasks: TaskManager, clock: FakeClock) -> None:
    """What could not start in time is cancelled, with that reason."""

    @tasks.task(expires=60)
    async def work() -> str:
        return "done"

    async with running(tasks, clock=clock):
        in_time = await work.using(delay=3600).enqueue()
        await clock.advance(3600)
        assert await in_time == "done"

        await tasks.pause_all()
        late = await work.using(delay=3600).enqueue()
        await clock.advance(3600 + 61)
        await tasks.resume_all()
        with pytest.raises(TaskCancelled, match="expired before it could start"):
            await late


async def test_a_task_that_has_started_does_not_expire(
    tasks: TaskManager, clock: FakeClock
) -> None:
    """However long it runs."""
    door = Door()

    @tasks.task(expires=60)
    async def work() -> str:
        await door.pass_through()
        return "done"

    async with running(tasks, clock=clock):
        handle = await work.enqueue()
        await door.reached()
        await clock.advance(3600)
        door.open()
        assert await handle == "done"
