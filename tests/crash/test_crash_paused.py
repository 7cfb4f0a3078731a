"""Pause means pause: proven by an effect that stands still, not by a state that says so."""

import time
from collections import Counter
from pathlib import Path

import pytest
from crash_driver import wait_until
from crash_puppeteer import Stage, stage

STILL = 2.0


def ticks(on: Stage, *tasks: str) -> Counter[str]:
    """How often each has ticked up to now."""
    seen = on.effects().ticks
    return Counter({task: seen[task] for task in tasks})


def they_tick(on: Stage, *tasks: str) -> None:
    """Wait until each has ticked twice more."""
    before = ticks(on, *tasks)
    wait_until(
        lambda: all(n >= before[task] + 2 for task, n in ticks(on, *tasks).items()), "they tick"
    )


def they_stand_still(on: Stage, *tasks: str) -> None:
    """No effect for two seconds, in which the sleep that each was in has ended."""
    before = ticks(on, *tasks)
    time.sleep(STILL)
    assert ticks(on, *tasks) == before


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_a_paused_task_stands_still_though_its_sleep_ends(tmp_path: Path) -> None:
    """A coroutine at its await, a thread at its checkpoint; by its own process and by another."""
    with stage(tmp_path) as on:
        own, other = on.puppet("own"), on.puppet("other")
        by_own = [on.run_in(own, function) for function in ("tick", "tick_in_thread")]
        by_other = [on.run_in(own, function) for function in ("tick", "tick_in_thread")]
        tasks = [*by_own, *by_other]
        they_tick(on, *tasks)
        for puppet, its in ((own, by_own), (other, by_other)):
            for task in its:
                assert puppet.tell("verb", "pause", task) is True
                assert puppet.wait_for(task, state="paused") < 1.0
        they_stand_still(on, *tasks)
        for puppet, its in ((other, by_own), (own, by_other)):
            for task in its:
                assert puppet.tell("verb", "resume", task) is True
                assert puppet.wait_for(task, state="running") < 1.0
        they_tick(on, *tasks)
        # They went on where they stood, and did not begin anew.
        assert {task: set(on.effects().attempts[task]) for task in tasks} == {t: {1} for t in tasks}


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_paused_stays_paused_across_kill_9(tmp_path: Path) -> None:
    """Neither its process's death nor the next start lets it go on; a person's resume does."""
    with stage(tmp_path) as on:
        dying, sibling = on.puppet("dying"), on.puppet("sibling")
        tasks = [on.run_in(dying, function) for function in ("tick", "tick_in_thread")]
        free = on.run_in(dying, "tick")
        they_tick(on, *tasks, free)
        for task in tasks:
            dying.tell("verb", "pause", task)
            dying.wait_for(task, state="paused")
        dying.kill()
        # The sibling has taken over when the one that was not paused goes on.
        they_tick(on, free)
        sibling.kill()
        restarted = on.puppet("restarted")
        before = ticks(on, *tasks)
        they_stand_still(on, *tasks)
        they_tick(on, free)
        assert ticks(on, *tasks) == before
        for task in tasks:
            assert restarted.task(task)["state"] == "paused"
            restarted.tell("verb", "resume", task)
        they_tick(on, *tasks)
        for task in tasks:
            found = restarted.task(task)
            assert (found["state"], found["attempt"]) == ("running", "2")
        assert on.effects().overlaps() == []


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_pausing_everything_outlives_every_process(tmp_path: Path) -> None:
    """Nothing new is started, here or after kill -9, until it is resumed; reason and actor stay."""
    with stage(tmp_path) as on:
        one = on.puppet("one")
        one.tell("verb", "pause_all", None, {"reason": "a flood", "actor": "ana"})
        waiting = [one.tell("enqueue", "nap", 0), one.tell("enqueue", "nap_in_thread", 0)]
        one.kill()
        two = on.puppet("two")
        waiting.append(two.tell("enqueue", "nap", 0))
        time.sleep(1.0)
        assert on.effects().attempts == {}
        (pause,) = two.tell("verb", "pauses")
        assert (pause["queue"], pause["reason"], pause["actor"]) == ("None", "a flood", "ana")
        two.tell("verb", "resume_all")
        for task in waiting:
            two.wait_for(task, state="succeeded", attempt="1")
