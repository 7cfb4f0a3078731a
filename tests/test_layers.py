"""The layers of the house: imports point down, and each risky thing has one door.

Everything here is read from the source with `ast`; a new file must find its place in `LAYERS`.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiosqlite.core
import pytest

SOURCE = Path(__file__).parent.parent / "src" / "inloop"

# From the top down. A file imports from its own layer and from those below it, never from above.
LAYERS = {
    "offer": {"__init__", "testing"},
    "wire": {"_manager"},
    "act": {
        "_chores", "_engine", "_function", "_handle", "_notes", "_pausing", "_running",
        "_settings", "_verbs",
    },
    "decide and drive": {"_gate", "_outcome", "_runner", "_shutdown", "_threads", "_watch"},
    "remember and tell": {"_context", "_events", "_logs", "_store"},
    "know": {
        "_checks", "_clock", "_codec", "_errors", "_exchange", "_model", "_retry", "_texts",
    },
}  # fmt: skip
DEPTH = {name: depth for depth, names in enumerate(LAYERS.values()) for name in names}

# What may look at a clock, or sleep, by itself; everybody else asks `_clock`.
TIME = {
    "_clock.py": {"time.time_ns", "time.monotonic"},
    "_model.py": {"time.time_ns"},  # ids rise with time
    # Threads of the store wait for other processes, which no fake clock moves.
    "_store/keeper.py": {"time.time_ns", "time.monotonic"},
    "_store/owners.py": {"time.time", "time.monotonic", "time.sleep"},
    "_store/place.py": {"time.monotonic", "time.sleep"},
    "_store/writer.py": {"time.monotonic"},
    "_store/connections.py": {"asyncio.sleep"},
    # Patience with real threads and with the event loop.
    "testing.py": {"time.monotonic", "asyncio.sleep"},
    "_shutdown.py": {"asyncio.sleep"},
    "_engine.py": {"asyncio.sleep"},
    "_manager.py": {"asyncio.sleep"},
    "_notes.py": {"asyncio.sleep"},
}

STDLIB = sys.stdlib_module_names | {"annotationlib"}  # of Python 3.14, guarded by its version

FILES = sorted(path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py"))
each_file = pytest.mark.parametrize("file", FILES)


def parse(file: str) -> ast.Module:
    """The syntax tree of a file, without what only type checkers see."""
    tree = ast.parse((SOURCE / file).read_text())
    tree.body = [node for node in tree.body if not _is_for_checkers(node)]
    return tree


def _is_for_checkers(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imports(file: str) -> Iterator[str]:
    """Full names of the modules that a file imports, wherever in it."""
    for node in ast.walk(parse(file)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            assert node.module is not None
            yield from (f"{node.module}.{name.name}" for name in node.names)


def own(file: str) -> set[str]:
    """Which parts of inloop a file imports: `_model`, `_store`, …"""
    found = {name.split(".")[1] for name in imports(file) if name.startswith("inloop.")}
    return found & DEPTH.keys()


def part(file: str) -> str:
    """The part that a file is, or belongs to."""
    return file.split("/")[0].removesuffix(".py")


def dotted(file: str) -> Iterator[str]:
    """Every `module.name` that a file mentions."""
    for node in ast.walk(parse(file)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"


@each_file
def test_every_file_has_its_layer(file: str) -> None:
    """A file that is in no layer has to be given one, or a better place."""
    assert part(file) in DEPTH


def test_every_layer_holds_files_that_exist() -> None:
    """A name that left the house leaves the table of layers too."""
    assert DEPTH.keys() == {part(file) for file in FILES}


@each_file
def test_imports_point_down(file: str) -> None:
    """A file imports from its own layer or from below it."""
    above = {name for name in own(file) if DEPTH[name] < DEPTH[part(file)]}
    assert not above


@each_file
def test_the_core_needs_nothing_but_aiosqlite(file: str) -> None:
    """Beside the standard library it imports the SQLite driver, and nothing else."""
    foreign = {name.split(".")[0] for name in imports(file)} - STDLIB - {"inloop"}
    assert foreign <= {"aiosqlite"} | ({"pytest"} if file == "testing.py" else set())


def test_what_remembers_does_not_know_who_listens() -> None:
    """Stores never publish, and events and logs never store."""
    for file in FILES:
        if part(file) == "_store":
            assert not own(file) & {"_context", "_events", "_logs"}, file
        elif part(file) in LAYERS["remember and tell"] | LAYERS["decide and drive"]:
            assert "_store" not in own(file), file


def private_of_aiosqlite() -> set[str]:
    """The private attributes of an aiosqlite connection."""
    tree = ast.parse(Path(aiosqlite.core.__file__).read_text())
    connection = next(
        node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Connection"
    )
    attributes = [node.attr for node in ast.walk(connection) if isinstance(node, ast.Attribute)]
    functions = [node.name for node in connection.body if hasattr(node, "name")]
    return {n for n in [*attributes, *functions] if n.startswith("_") and not n.startswith("__")}


def test_one_file_touches_the_private_parts_of_aiosqlite() -> None:
    """aiosqlite's private attributes are used in `_store/commit.py`, and nowhere else."""
    private = private_of_aiosqlite()
    assert {"_execute", "_conn"} <= private

    def touches(file: str) -> bool:
        # Attributes of ours that happen to have such a name are reached through `self`; one of
        # another task function is named so.
        return any(
            isinstance(node, ast.Attribute)
            and node.attr in private
            and ast.unparse(node.value) != "self"
            and (file, node.attr) != ("_function.py", "_connection")
            for node in ast.walk(parse(file))
        )

    assert [file for file in FILES if touches(file)] == ["_store/commit.py"]


@each_file
def test_time_has_few_doors(file: str) -> None:
    """Only files with a reason look at the machine's clocks, or sleep, by themselves."""
    watched = {"time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.sleep"}
    watched |= {"time.perf_counter", "asyncio.sleep", "asyncio.wait_for", "datetime.now"}
    assert {name for name in dotted(file) if name in watched} == TIME.get(file, set()) & watched
    assert not {name for name in imports(file) if name.startswith(("time.", "asyncio.sleep"))}


@each_file
def test_the_host_keeps_its_own_set_up(file: str) -> None:
    """No logging configuration, no signal handlers, no exit hooks, no global event-loop policy."""
    hands_off = {
        "basicConfig", "dictConfig", "fileConfig", "addHandler", "captureWarnings",
        "add_signal_handler", "set_wakeup_fd", "set_event_loop_policy", "set_task_factory",
        "set_exception_handler", "excepthook", "unraisablehook",
    }  # fmt: skip
    tree = parse(file)
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not attributes & hands_off
    assert not {"signal.signal", "atexit.register"} & set(dotted(file))


def test_importing_inloop_imports_no_framework() -> None:
    """`import inloop` brings neither a web framework nor pydantic nor a test tool along."""
    heavy = {"starlette", "fastapi", "pydantic", "pytest", "hypothesis", "uvicorn", "anyio"}
    code = f"import sys, inloop; print(*sorted({heavy} & sys.modules.keys()))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []


def test_helpers_for_tests_do_not_need_pytest() -> None:
    """`inloop.testing` can be imported, and used, where pytest is not installed."""
    code = "import sys; sys.modules['pytest'] = None; import inloop.testing"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_importing_inloop_touches_nothing(tmp_path: Path) -> None:
    """Importing and declaring starts no thread, opens no file and changes no logging."""
    code = """
import logging, os, sys, threading
factory, handlers = logging.getLogRecordFactory(), logging.getLogger().handlers[:]
from inloop import TaskManager
tasks = TaskManager("app.db")
@tasks.task
async def greet(name: str) -> str: return name
assert threading.active_count() == 1, threading.enumerate()
assert logging.getLogRecordFactory() is factory and logging.getLogger().handlers == handlers
assert os.listdir() == [], os.listdir()
"""
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
