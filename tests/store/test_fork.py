"""A process that forks while a store is open: the child neither harms it nor uses it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from inloop._model import State
from inloop._store import open_store

from .rig import Rig

pytestmark = pytest.mark.anyio

# The parent opens a store and forks; the child tries what it is told to, and says what came of it.
FORKING = """
import asyncio, gc, json, os, sys, warnings

warnings.simplefilter("ignore", DeprecationWarning)  # threads and fork: that is the point here
sys.path.insert(0, sys.argv[1])
from store.rig import Rig
from inloop._store import open_store

path, what = sys.argv[2:]

async def opens(where):
    rig = await Rig(open_store(where, "full")).open()
    await rig.put()
    await rig.close()
    return "opened"

def in_child():
    if what == "ends":
        return "nothing"
    where = path if what == "opens" else path + ".other"
    asyncio.events._set_running_loop(None)
    try:
        return asyncio.run(opens(where))
    except Exception as error:
        return f"{type(error).__name__}: {error}"

async def main():
    rig = await Rig(open_store(path, "full")).open()
    claimed = await rig.start(queue="parent")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = in_child()
            gc.collect()
        except BaseException as error:
            answer = repr(error)
        os.write(write, answer.encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as pipe:
        answer = pipe.read()
    ended = await rig.end(rig.move(claimed))
    more = await rig.put()
    owners = len(await rig.store.owners(rig.now))
    await rig.close()
    print(json.dumps({"child": answer, "pid": os.getpid(), "ended": ended, "owners": owners}))

asyncio.run(main())
"""


def fork(path: Path, what: str) -> dict[str, object]:
    tests = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", FORKING, str(tests), str(path), what],
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told: dict[str, object] = json.loads(done.stdout)
    return told


async def works(path: Path) -> None:
    """The parent's file is whole, with what it acknowledged."""
    rig = await Rig(open_store(path, "full")).open()
    assert await rig.store.counts() == {
        "parent": {State.SUCCEEDED: 1}, "default": {State.QUEUED: 1},
    }  # fmt: skip
    assert await rig.sql("pragma integrity_check") == [("ok",)]
    await rig.close()


@pytest.mark.parametrize("what", ["ends", "opens", "opens-another"])
async def test_the_parent_goes_on(path: Path, what: str) -> None:
    """Whatever the child does, the parent's tasks end, and it is still the one owner."""
    told = fork(path, what)
    assert (told["ended"], told["owners"]) == (True, 1)
    await works(path)


def test_the_child_cannot_open_the_same_file(path: Path) -> None:
    """SQLite's locks do not survive a fork: refused, naming the parent and what to do instead."""
    told = fork(path, "opens")
    assert str(told["child"]).startswith("StoreError:")
    assert f"process {told['pid']} " in str(told["child"])
    assert "spawn" in str(told["child"])


def test_the_child_may_open_another_file(path: Path) -> None:
    """A file that the parent did not have open is as any other."""
    assert fork(path, "opens-another")["child"] == "opened"
