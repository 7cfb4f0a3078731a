"""A process that is stopped, not dead: SIGSTOP."""

import signal
import time
from pathlib import Path

import pytest
from crash_driver import look, wait_until
from crash_effects import Attempt
from crash_puppeteer import OrderFailed, Puppet, Stage, stage
from crash_report import tell

SECONDS = 60
OWNERS = "select distinct owner from inloop_task where state = 'running'"
WRITTEN = "select count(*) from inloop_event where writer = {} and at >= {}"


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_a_stopped_owner_keeps_its_tasks_until_a_person_takes_them_over(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """No time is too long to be alive; and once it is taken over, it can write no more."""
    with stage(tmp_path) as on:
        stopped, other = on.puppet("stopped"), on.puppet("other")
        # The first one's sleep is over when it wakes: it will have an end to write, at once.
        tasks = [
            on.run_in(stopped, function, seconds)
            for function, seconds in (("nap", 20), ("nap", 300), ("nap_in_thread", 300))
        ]
        ((old,),) = look(tmp_path, OWNERS)
        stopped.signal(signal.SIGSTOP)
        shown = stays_theirs(other, stopped, old)
        assert other.tell("verb", "recoveries") == []
        assert all(other.task(task)["attempt"] == "1" for task in tasks)

        hers = owner_of(other, stopped)["id"]
        assert other.tell("verb", "take_over", hers) == 3
        wait_until(lambda: all(on.began(task, "other") for task in tasks), "they run again")
        woken, woken_at = time.monotonic_ns(), time.time_ns() // 1000
        stopped.signal(signal.SIGCONT)
        took = attempts_end(on, tasks, woken)

        assert stopped.tell("result", on.run_in(stopped, "nap", 0.1)) == "stopped"
        assert owner_of(stopped, stopped)["id"] != hers
        assert look(tmp_path, WRITTEN.format(old, woken_at)) == [(0,)]
        for task in tasks:
            found = other.task(task)
            assert (found["state"], found["attempt"]) == ("running", "2")
        tell(
            request,
            f"{SECONDS} s stopped and not taken over; shown as not responding after {shown:.0f} s;"
            f" its coroutine and its thread were stopped {took:.2f} s after SIGCONT",
        )


def stays_theirs(other: Puppet, stopped: Puppet, owner: object) -> float:
    """Watch that nobody takes its tasks; when it was shown as not responding."""
    begun = time.monotonic()
    shown: float | None = None
    while (since := time.monotonic() - begun) < SECONDS:
        assert look(stopped.folder, OWNERS) == [(owner,)], f"taken over after {since:.1f} s"
        seen = owner_of(other, stopped)
        assert seen["alive"] == "True"
        if seen["responding"] == "False":
            shown = shown or since
        time.sleep(0.5)
    assert shown is not None, "it was never shown as not responding"
    # Its last heartbeat may have been up to 5 s before.
    assert 24 < shown < 36
    return shown


def attempts_end(on: Stage, tasks: list[str], woken: int) -> float:
    """Wait until the stale attempts have ended; the first returned, the others were stopped."""

    def stale() -> list[Attempt]:
        return [on.effects().attempts[task][1] for task in tasks]

    wait_until(lambda: all(attempt.ended for attempt in stale()), "the stale attempts end")
    assert [attempt.how for attempt in stale()] == ["ok", "CancelledError", "CancelledError"]
    took = max(attempt.ended or 0 for attempt in stale()) - woken
    assert took < 1.5e9
    return took / 1e9


def owner_of(puppet: Puppet, whose: Puppet) -> dict[str, str]:
    """The open owner of one process, as another one sees it."""
    (found,) = [o for o in puppet.tell("verb", "owners") if o["pid"] == str(whose.pid)]
    return dict(found)


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_stopped_in_the_middle_of_a_write_it_is_named_to_those_who_wait(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Others raise `StoreBusy` with its pid after 10 s; when it goes on, so does everybody."""
    with stage(tmp_path) as on:
        stopped, other = on.puppet("stopped", POINTS="SIGSTOP"), on.puppet("other")
        ending = on.run_in(other, "nap", 1)
        stopped.arm("adding")
        in_doubt = stopped.begin("enqueue", "nap", 0.1)
        wait_until(lambda: stopped.vitals["fell"], "it stopped, with the turnstile in hand")
        begun = time.monotonic()
        with pytest.raises(OrderFailed, match=f"process {stopped.pid} has been writing") as failed:
            other.tell("enqueue", "nap", 0.1)
        waited = time.monotonic() - begun
        assert failed.value.kind == "StoreBusy"
        assert 9 < waited < 14
        tell(request, f"StoreBusy after {waited:.1f} s: {failed.value.text}")

        stopped.signal(signal.SIGCONT)
        assert stopped.tell("result", stopped.answer(in_doubt)) in ("stopped", "other")
        for puppet in (stopped, other):
            assert puppet.tell("result", on.run_in(puppet, "nap", 0.1)) == puppet.name
        other.wait_for(ending, state="succeeded", attempt="1")
