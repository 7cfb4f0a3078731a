"""A process dies, and a living sibling takes its tasks over."""

import time
from pathlib import Path

import pytest
from crash_driver import look, wait_until
from crash_puppeteer import stage
from crash_report import tell

HERS = "select count(*) from inloop_task where owner = (select n from inloop_owner where pid = {})"


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_a_sibling_takes_over_within_a_second_though_its_loop_is_blocked(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Recovery needs no event loop: a sibling that is blocked for 3 s still does it in time."""
    with stage(tmp_path) as on:
        dying, blocked = on.puppet("dying"), on.puppet("blocked")
        ids = [on.run_in(dying, "nap", 60) for _ in range(5)]
        blocked_from = blocked.tell("block", 3)
        time.sleep(0.2)
        begun = dying.kill()
        hers = HERS.format(dying.pid)
        wait_until(lambda: look(tmp_path, hers) == [(0,)], "her tasks have left her")
        took = time.monotonic() - begun
        told = blocked.begin("verb", "recoveries")
        still_blocked = time.monotonic() - blocked_from < 2.8
        wait_until(lambda: all(on.began(task, "blocked") for task in ids), "they run again")
        report = blocked.answer(told)
        tell(request, f"5 tasks left the killed process after {took:.2f} s")
        assert still_blocked, "the test measured nothing: the loop was free again"
        assert took < 1.0
        assert [(str(dying.pid), "its process died")] == [(r["pid"], r["why"]) for r in report]
        first = min(a[2].begun for a in on.effects().attempts.values()) / 1e9
        assert first - blocked_from > 2.9, "they ran while the loop was blocked?"


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_everything_that_a_dead_process_held_is_taken_over(tmp_path: Path) -> None:
    """Running tasks run again, paused ones stay paused, what was to be cancelled is cancelled."""
    with stage(tmp_path) as on:
        dying, sibling = on.puppet("dying"), on.puppet("sibling")
        running, in_thread, paused, resumed, stubborn = [
            on.run_in(dying, *what)
            for what in (("nap", 3), ("nap_in_thread", 3), ("nap", 3), ("nap", 3), ("stubborn",))
        ]
        for task in (paused, resumed):
            dying.tell("verb", "pause", task)
            dying.wait_for(task, state="paused")
        assert dying.tell("verb", "cancel", stubborn) is True
        dying.kill()
        sibling.wait_for(running, state="succeeded", attempt="2")
        sibling.wait_for(in_thread, state="succeeded", attempt="2")
        sibling.wait_for(stubborn, state="cancelled", attempt="1")
        assert sibling.task(paused)["state"] == "paused"
        sibling.tell("verb", "resume", resumed)
        sibling.wait_for(resumed, state="succeeded", attempt="2")
        assert on.effects().overlaps() == []
