"""Several processes share one file, with no set-up."""

import time
from collections import Counter
from pathlib import Path

import pytest
from crash_driver import look, wait_until
from crash_puppeteer import OrderFailed, stage
from crash_report import tell

TASKS = 2000
LEFT = "select count(*) from inloop_task where state <> 'succeeded'"


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_four_processes_run_two_thousand_tasks_once_each(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """No task is claimed twice, and every process takes its part."""
    with stage(tmp_path) as on:
        four = [on.puppet(name) for name in "abcd"]
        begun = time.monotonic()
        orders = [puppet.begin("enqueue_many", "nap", TASKS // 4, 0.01) for puppet in four]
        ids = [i for puppet, n in zip(four, orders, strict=True) for i in puppet.answer(n)]
        assert len(set(ids)) == TASKS
        wait_until(lambda: look(tmp_path, LEFT) == [(0,)], "all are done", 60)
        took = time.monotonic() - begun
        effects = on.effects()
        assert effects.wrong == []
        assert {task: set(ran) for task, ran in effects.attempts.items()} == {i: {1} for i in ids}
        shares = Counter(ran[1].life for ran in effects.attempts.values())
        tell(request, f"{TASKS} tasks in {took:.1f} s, shared as {dict(shares)}")
        assert set(shares) == set("abcd")
        assert all(puppet.close() == 0 for puppet in four)


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_control_from_any_process_is_obeyed_within_a_second(tmp_path: Path) -> None:
    """Cancel, pause and resume reach a task that runs in another process."""
    with stage(tmp_path) as on:
        owner, other = on.puppet("owner"), on.puppet("other")
        for function in ("tick", "tick_in_thread"):
            task = on.run_in(owner, function)
            assert other.tell("verb", "pause", task) is True
            assert other.wait_for(task, state="paused") < 1.0
            assert other.tell("verb", "resume", task) is True
            assert other.wait_for(task, state="running") < 1.0
            assert other.tell("verb", "cancel", task) is True
            assert other.wait_for(task, state="cancelled") < 1.0
            assert on.effects().attempts[task][1].how == "CancelledError"
            assert other.tell("verb", "cancel", task) is False


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_a_handle_is_awaited_in_another_process(tmp_path: Path) -> None:
    """It gives the typed result, and raises what became of the task otherwise."""
    with stage(tmp_path) as on:
        owner, other = on.puppet("owner"), on.puppet("other")
        task = on.run_in(owner, "nap", 0.5)
        assert other.tell("result", task) == "owner"
        assert owner.tell("result", task) == "owner"
        endless = owner.tell("enqueue", "tick")
        waiting = other.begin("result", endless)
        owner.tell("verb", "cancel", endless)
        with pytest.raises(OrderFailed, match=endless) as failed:
            other.answer(waiting)
        assert failed.value.kind == "TaskCancelled"


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_a_handle_is_awaited_across_the_death_of_the_owner(tmp_path: Path) -> None:
    """Who waits in a third process hears of the result that the sibling's attempt gave."""
    with stage(tmp_path) as on:
        owner, sibling = on.puppet("owner"), on.puppet("sibling")
        task = on.run_in(owner, "nap", 2)
        waiting = sibling.begin("result", task)
        owner.kill()
        assert sibling.answer(waiting) == "sibling"
