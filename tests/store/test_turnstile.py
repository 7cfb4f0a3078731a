"""The turnstile: one writer at a time over all processes, fairly, and who is stuck is named."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from inloop import StoreBusy
from inloop._store.owners import Turnstile


@contextmanager
def process(code: str, *words: object) -> Iterator["subprocess.Popen[str]"]:
    """A process that has said its first line; killed at the end."""
    child = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert child.stdout is not None
        assert child.stdout.readline()
        yield child
    finally:
        child.kill()
        child.communicate()


STAND = """
import sys
from pathlib import Path
from inloop._store.owners import Turnstile

with Turnstile(Path(sys.argv[1])):
    print("in", flush=True)
    sys.stdin.read()
"""


def test_one_at_a_time(tmp_path: Path) -> None:
    """Who comes second waits until the first is through."""
    path = tmp_path / "write.lock"
    inside = 0
    most = 0
    turns = 0

    def go() -> None:
        nonlocal inside, most, turns
        turnstile = Turnstile(path)
        for _ in range(30):
            with turnstile:
                inside += 1
                most = max(most, inside)
                time.sleep(0.0005)
                inside -= 1
                turns += 1
        turnstile.close()

    threads = [threading.Thread(target=go) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, turns) == (1, 90)


def test_a_stopped_process_is_named(tmp_path: Path) -> None:
    """ "if one is stopped in the middle of a write, others raise `StoreBusy` … naming its pid"."""
    path = tmp_path / "write.lock"
    with process(STAND, path) as child:
        child.send_signal(signal.SIGSTOP)
        turnstile = Turnstile(path, patience=0.2)
        with pytest.raises(StoreBusy, match=rf"process {child.pid} .*stopped.*{path}"), turnstile:
            pass
        child.send_signal(signal.SIGCONT)
        turnstile.close()


def test_who_comes_later_to_a_stuck_one_is_told_as_early(tmp_path: Path) -> None:
    """The patience is with one hold of the lock: it is not begun anew by each who waits for it."""
    path = tmp_path / "write.lock"
    with process(STAND, path) as child:
        child.send_signal(signal.SIGSTOP)
        turnstile = Turnstile(path, patience=1.0)
        with pytest.raises(StoreBusy), turnstile:
            pass
        begun = time.monotonic()
        with pytest.raises(StoreBusy), turnstile:
            pass
        assert time.monotonic() - begun < 0.9
        child.send_signal(signal.SIGCONT)
    with turnstile:  # it has ended: nobody is waited for
        pass
    turnstile.close()


def test_the_pid_is_of_who_holds_it_now(tmp_path: Path) -> None:
    """Whatever stood there before, longer or shorter."""
    path = tmp_path / "write.lock"
    path.write_text("1234567890123\nrubbish")
    turnstile = Turnstile(path)
    with turnstile:
        assert path.read_bytes().split()[0] == str(os.getpid()).encode()
    turnstile.close()


def test_a_killed_process_is_not_waited_for(tmp_path: Path) -> None:
    """Its turn ends with it."""
    path = tmp_path / "write.lock"
    with process(STAND, path) as child:
        child.kill()
        child.wait()
        turnstile = Turnstile(path, patience=0.1)
        with turnstile:
            pass
        turnstile.close()


def test_who_is_in_a_hurry_waits_no_longer(tmp_path: Path) -> None:
    """`hurry` shortens the wait, also one that has begun."""
    path = tmp_path / "write.lock"
    with process(STAND, path):
        turnstile = Turnstile(path, patience=60)
        turnstile.hurry(0.1)
        begun = time.monotonic()
        with pytest.raises(StoreBusy), turnstile:
            pass
        late = Turnstile(path, patience=60)
        threading.Timer(0.1, late.hurry, [0.1]).start()
        with pytest.raises(StoreBusy), late:
            pass
        assert time.monotonic() - begun < 30
        turnstile.close()
        late.close()


def test_an_error_inside_ends_the_turn(tmp_path: Path) -> None:
    """The next one goes in at once."""
    path = tmp_path / "write.lock"
    turnstile, other = Turnstile(path), Turnstile(path, patience=0.1)
    with pytest.raises(ZeroDivisionError), turnstile:
        raise ZeroDivisionError
    with other:
        pass
    turnstile.close()
    other.close()
    other.close()


RACE = """
import sys, time
from pathlib import Path
from inloop._store.owners import Turnstile

turnstile = Turnstile(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
until, turns, worst = time.monotonic() + 0.6, 0, 0.0
while time.monotonic() < until:
    begun = time.monotonic()
    with turnstile:
        worst = max(worst, time.monotonic() - begun)
        time.sleep(0.0003)
        turns += 1
    time.sleep(0.0002)  # as between two transactions of one store, which tells its callers first
print(turns, worst)
"""


def test_nobody_starves(tmp_path: Path) -> None:
    """Of four processes that all want to write all the time, each gets its share."""
    path = tmp_path / "write.lock"
    with (
        process(RACE, path) as a,
        process(RACE, path) as b,
        process(RACE, path) as c,
        process(RACE, path) as d,
    ):
        children = (a, b, c, d)
        for child in children:
            assert child.stdin is not None
            child.stdin.write("\n")
            child.stdin.flush()
        told = [child.communicate(timeout=15)[0].split() for child in children]
    turns = [int(words[0]) for words in told]
    assert min(turns) >= sum(turns) * 0.05, turns
    assert max(float(words[1]) for words in told) < 1.0
