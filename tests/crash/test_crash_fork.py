"""Children of a process that has a manager open: forks, and other programs."""

import time
from pathlib import Path

import pytest
from crash_driver import look, wait_until
from crash_puppeteer import Puppet, Stage, stage
from crash_report import tell

FORKS = pytest.mark.parametrize("how", ["os.fork", "multiprocessing"])
HERS = "select count(*) from inloop_task where owner = (select n from inloop_owner where pid = {})"


def fork(on: Stage, puppet: Puppet, how: str) -> str:
    """Let the puppet have a forked child; what the child got when it tried to enqueue."""
    pid, told = puppet.tell("fork", how)
    on.children.append(pid)
    return str(told)


def is_gone(pid: int) -> bool:
    """Whether a grandchild of ours has ended (it may be a zombie of its parent's)."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True


@pytest.mark.slow
@pytest.mark.timeout(60)
@FORKS
def test_a_fork_cannot_use_its_parents_manager(tmp_path: Path, how: str) -> None:
    """It is told `NotOpen`, and by which process the manager was opened."""
    with stage(tmp_path) as on:
        parent = on.puppet("parent")
        told = fork(on, parent, how)
        assert told.startswith("NotOpen: ")
        assert f"process {parent.pid}" in told
        assert look(tmp_path, "select count(*) from inloop_task") == [(0,)]


@pytest.mark.slow
@pytest.mark.timeout(60)
@FORKS
def test_a_fork_that_comes_and_goes_does_not_disturb_its_parent(tmp_path: Path, how: str) -> None:
    """Its parent's tasks run on, it writes on, and nobody takes it for dead."""
    with stage(tmp_path) as on:
        parent, sibling = on.puppet("parent"), on.puppet("sibling")
        running = on.run_in(parent, "nap", 2)
        for _ in range(3):
            fork(on, parent, how)
            parent.tell("result", parent.tell("enqueue", "nap", 0.01))
        wait_until(lambda: all(map(is_gone, on.children)), "the children are gone")
        parent.tell("result", on.run_in(parent, "nap_in_thread", 0.01))
        assert sibling.tell("result", running) == "parent"
        assert sibling.tell("verb", "recoveries") == []
        assert [o["alive"] for o in sibling.tell("verb", "owners")] == ["True", "True"]
        assert parent.close() == 0
        assert look(tmp_path, "pragma integrity_check") == [("ok",)]


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("how", ["os.fork", "multiprocessing", "subprocess"])
def test_a_child_that_lives_on_does_not_hide_its_parents_death(
    tmp_path: Path, how: str, request: pytest.FixtureRequest
) -> None:
    """The child holds no lock of the parent's: a sibling takes the tasks over within a second."""
    with stage(tmp_path) as on:
        parent, sibling = on.puppet("parent", CHILD_LIVES="60"), on.puppet("sibling")
        tasks = [on.run_in(parent, "nap", 2) for _ in range(3)]
        if how == "subprocess":
            on.children.append(parent.tell("spawn"))
        else:
            fork(on, parent, how)
        begun = parent.kill()
        wait_until(lambda: look(tmp_path, HERS.format(parent.pid)) == [(0,)], "they are recovered")
        took = time.monotonic() - begun
        tell(request, f"{how}: recovered {took:.2f} s after the parent's death")
        assert not is_gone(on.children[0]), "the child was gone as well"
        assert took < 1.0
        for task in tasks:
            sibling.wait_for(task, state="succeeded", attempt="2")


@pytest.mark.slow
@pytest.mark.timeout(60)
@FORKS
def test_a_child_that_lives_on_does_not_keep_the_turnstile(tmp_path: Path, how: str) -> None:
    """The parent is killed in the middle of a write and has a living fork: others write on."""
    with stage(tmp_path) as on:
        parent = on.puppet("parent", POINTS="SIGKILL", CHILD_LIVES="60")
        sibling = on.puppet("sibling")
        fork(on, parent, how)
        parent.arm("adding")
        parent.begin("enqueue", "nap", 0)
        parent.process.wait(30)
        assert sibling.tell("result", sibling.tell("enqueue", "nap", 0.01)) == "sibling"
        assert not is_gone(on.children[0]), "the child was gone as well"


@pytest.mark.slow
@pytest.mark.timeout(60)
@FORKS
def test_a_child_that_lives_on_does_not_keep_the_keepers_locks(tmp_path: Path, how: str) -> None:
    """The parent is killed while it recovers a dead sibling's tasks: the next start does it all."""
    with stage(tmp_path) as on:
        dying = on.puppet("dying")
        parent = on.puppet("parent", POINTS="SIGKILL", CHILD_LIVES="60")
        task = on.run_in(dying, "nap", 3)
        fork(on, parent, how)
        parent.arm("recovering")
        dying.kill()
        parent.process.wait(30)
        later = on.puppet("later")
        later.wait_for(task, state="succeeded", attempt="2")
        assert not is_gone(on.children[0]), "the child was gone as well"


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_a_task_that_forks_in_its_thread_ends_once(tmp_path: Path) -> None:
    """The child goes on in the same function; what it returns there is nobody's result."""
    with stage(tmp_path) as on:
        parent = on.puppet("parent")
        for _ in range(3):
            pid = parent.tell("result", parent.tell("enqueue", "forks"))
            on.children.append(pid)
            assert pid != 0
        assert parent.tell("result", parent.tell("enqueue", "nap_in_thread", 0.01)) == "parent"
        assert parent.close() == 0
