"""The lock files of processes that were killed."""

from pathlib import Path

import pytest
from crash_points import POINTS
from crash_puppeteer import Puppet, Stage, stage
from crash_vitals import Vitals


def falls_at_start(on: Stage, name: str, point: str) -> None:
    """A process that is killed on its way in."""
    Vitals(on.folder / f"{name}.vitals")["armed"] = POINTS.index(point)
    puppet = Puppet(on.folder, name, POINTS="SIGKILL")
    on.puppets.append(puppet)
    puppet.process.wait(30)
    assert POINTS[puppet.vitals["fell"]] == point


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_no_lock_file_of_the_dead_is_left(tmp_path: Path) -> None:
    """Also where the dead died between taking a lock, or a dead one's tasks, and the next step."""
    with stage(tmp_path) as on:
        dead = on.puppet("dead")
        task = dead.tell("enqueue", "nap", 3)
        dead.kill()
        falls_at_start(on, "registering", "registering")
        falls_at_start(on, "recovered", "recovered")
        alive = on.puppet("alive")
        alive.wait_for(task, state="succeeded", attempt="2")
        (left,) = (tmp_path / "tasks.db.inloop").glob("*-*.lock")
        assert [left.stem] == [o["id"] for o in alive.tell("verb", "owners") if o["me"] == "True"]
        assert alive.close() == 0
        assert not left.exists()
