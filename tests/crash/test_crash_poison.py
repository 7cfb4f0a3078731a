"""A task that kills its process, among healthy ones."""

from pathlib import Path

import pytest
from crash_driver import look, wait_until
from crash_puppeteer import stage

HEALTHY = 20
HELD = """
select inloop_task.id from inloop_event join inloop_task on seq = task
where inloop_event.state = 'held'
"""


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["SIGKILL", "os._exit"])
def test_poison_is_held_after_its_third_death_and_nobody_else_is(tmp_path: Path, how: str) -> None:
    """Restarted each time, the app goes on without the poison; all that ran beside it succeeds."""
    with stage(tmp_path) as on:
        puppet = on.puppet("0")
        healthy = puppet.tell("enqueue_many", "nap", HEALTHY, 0.2)
        poison = puppet.tell("enqueue", "poison", how)
        for life in "123":
            puppet.process.wait(30)
            puppet = on.puppet(life)
        puppet.wait_for(poison, state="held", attempt="3")
        assert "3 deaths" in puppet.task(poison)["reason"]
        wait_until(
            lambda: all(puppet.task(task)["state"] == "succeeded" for task in healthy),
            "the healthy succeed",
        )
        assert puppet.close() == 0
        assert set(on.effects().attempts[poison]) == {1, 2, 3}
    assert look(tmp_path, HELD) == [(poison,)]
