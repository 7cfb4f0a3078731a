"""A script under `asyncio.run`: Ctrl-C once and twice, and every other way to end; none hangs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from shutdown_serving import GRACE, INTERRUPTED, PATIENCE, SLACK, after_recovery, look

SCRIPT = Path(__file__).parent / "programs" / "shutdown_script.py"
INT = signal.SIGINT
pytestmark = pytest.mark.timeout(60)


class Script:
    """The script, ending in its way."""

    def __init__(self, how: str, store: Path, grace: float, seconds: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-X", "dev", SCRIPT, how, store],
            env=os.environ | {"INLOOP_GRACE": str(grace), "SECONDS": str(seconds)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.process.stdout.readline()
        self.began = time.monotonic()
        self.said = ""

    def interrupt(self, times: int = 1) -> None:
        """Ctrl-C."""
        for n in range(times):
            time.sleep(0.3 if n else 0)
            self.process.send_signal(INT)

    def ended(self, within: float) -> int:
        """Wait for its end, which is to come that soon; the exit code."""
        try:
            _, self.said = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError("it hangs") from None
        took = time.monotonic() - self.began
        assert took < within + SLACK, f"took {took:.1f} s:\n{self.said}"
        return self.process.returncode


@contextmanager
def script(how: str, store: Path, *, grace: float = GRACE, seconds: float = 60) -> Iterator[Script]:
    """Its tasks run at the beginning of the block."""
    run = Script(how, store, grace, seconds)
    try:
        yield run
    finally:
        run.process.kill()
        run.process.communicate()


# ---- Ctrl-C


def test_ctrl_c_once_waits_for_what_ends_in_time(path: Path) -> None:
    """And ends right after it, as any script does that was interrupted."""
    with script("wait", path, grace=30, seconds=1.0) as run:
        run.interrupt()
        assert run.ended(within=1.0 + 1) == -INT
    assert look(path, "select state from inloop_task") == [("succeeded",)]
    assert run.said.rstrip().endswith("KeyboardInterrupt")


def test_ctrl_c_once_interrupts_what_does_not(path: Path) -> None:
    """Also beside a thread that will not end; it is named, and nothing else is complained of."""
    with script("wait, stuck", path) as run:
        run.interrupt()
        assert run.ended(within=GRACE + 1) == -INT
    assert run.said.count("did not wait any longer") == 1
    assert "(stuck): a thread that cannot be ended" in run.said
    assert "Warning" not in run.said
    assert after_recovery(path) == [INTERRUPTED] * 2


@pytest.mark.parametrize("how", ["wait", "wait, stuck"])
def test_ctrl_c_twice_ends_the_grace(path: Path, how: str) -> None:
    """What runs is interrupted, as at the end of the grace."""
    with script(how, path, grace=60) as run:
        run.interrupt(2)
        assert run.ended(within=1 + 1) == -INT
    assert "Warning" not in run.said
    assert after_recovery(path) == [INTERRUPTED] * (1 + ("stuck" in how))


def test_ctrl_c_again_while_the_last_is_being_written(path: Path) -> None:
    """The grace is over, a thread is given its last moment: all is stored, as it should be."""
    with script("wait, stuck", path, grace=0) as run:
        run.interrupt(2)
        assert run.ended(within=1) == -INT
    assert "Warning" not in run.said
    assert after_recovery(path) == [INTERRUPTED] * 2


# ---- other ends


@pytest.mark.parametrize(
    ("how", "code"), [("exit", 3), ("error", 1), ("falls out", 0), ("falls out, stuck", 0)]
)
def test_the_end_of_the_block(path: Path, how: str, code: int) -> None:
    """Closes, whatever ends it; nothing holds up the interpreter's exit."""
    with script(how, path) as run:
        assert run.ended(within=GRACE + 1) == code
    assert "Warning" not in run.said
    assert ("RuntimeError: of the app" in run.said) == (how == "error")
    assert after_recovery(path) == [INTERRUPTED] * (1 + ("stuck" in how))


@pytest.mark.parametrize("how", ["callback", "callback, stuck"])
def test_an_exit_from_a_callback(path: Path, how: str) -> None:
    """`asyncio.run` cancels everything at once: what ran was interrupted, and did not fail or die.

    The block closes meanwhile, and gives a thread its grace.
    """
    with script(how, path) as run:
        assert run.ended(within=GRACE + 1) == 3
    assert "Warning" not in run.said
    assert after_recovery(path) == [INTERRUPTED] * (1 + ("stuck" in how))


@pytest.mark.parametrize("how", ["not closed", "not closed, stuck"])
def test_entered_and_never_exited(path: Path, how: str) -> None:
    """It does not hang, nor complain, and nothing fails: what ran will run again."""
    with script(how, path, grace=60) as run:
        assert run.ended(within=1) == 0
    assert run.said == ""
    rows = after_recovery(path)
    assert [row[:2] for row in rows] == [("queued", 0)] * (1 + ("stuck" in how))
