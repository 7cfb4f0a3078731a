"""What the README shows is run, and what can be set, called or raised is in it."""

import ast
import asyncio
import importlib
import inspect
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

import inloop
import inloop.testing
from inloop import TaskFunction, TaskHandle, TaskManager

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
PYTHON = [text for language, text in BLOCKS if language == "python"]
COMMANDS = re.findall(r"^\$ (.+)$", README, re.MULTILINE)

_RECIPES = README[README.index("## Recipes") : README.index("## Settings")]
RECIPES = [text for text in PYTHON if text in _RECIPES]
FILES = [text for text in RECIPES if re.match(r"# \w+\.py$", text.splitlines()[0])]
SNIPPETS = [text for text in RECIPES if text not in FILES]


def _named(texts: list[str]) -> list[object]:
    names = [re.findall(r"def (\w+)", text) for text in texts]
    return [
        pytest.param(text, id=found[0] if found else f"line-{at}")
        for at, (text, found) in enumerate(zip(texts, names, strict=True))
    ]


def _run(*command: str, cwd: Path, timeout: float = 30) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONWARNINGS": "error"}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout
    )


def test_the_complete_program_gives_the_output_that_is_shown(tmp_path: Path) -> None:
    """Run twice as it stands, it is killed the first time, and finishes the second time."""
    program = next(text for text in PYTHON if "asyncio.run(main())" in text)
    assert (ROOT / "examples" / "survives.py").read_text().endswith(program)
    (tmp_path / "survives.py").write_text(program)
    shown = next(text for language, text in BLOCKS if "python survives.py" in text)
    runs = [_run(sys.executable, "survives.py", cwd=tmp_path) for _ in range(2)]
    told = ""
    for run in runs:
        # "Killed" is the shell's word for it; the rest of what goes to stderr is inloop's warning.
        warning = re.sub(r"process \d+ on [^\s:]+", "process 4711 on laptop", run.stderr)
        killed = "Killed\n" if run.returncode == -signal.SIGKILL else ""
        told += f"$ python survives.py\n{warning}{run.stdout}{killed}"
    assert told == shown
    assert runs[1].returncode == 0


def test_what_is_shown_of_the_main_example_is_in_it() -> None:
    """The heart of the import is shown as it is run."""
    heart = next(text for text in PYTHON if "executemany" in text)
    assert textwrap.indent(heart, " " * 8) in (ROOT / "examples" / "imports.py").read_text()


def test_the_commands_are_the_real_ones() -> None:
    """The main example names the command that starts it, and CI runs the one for the tests."""
    start, test = COMMANDS[:2]
    assert start in (ROOT / "examples" / "imports.py").read_text()
    assert f"{{ {test}; }}" in (ROOT / ".ci" / "run").read_text()


def test_the_first_block_is_an_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The app at the top of the page takes a request and stores the task."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"FastAPI": FastAPI, **vars(inloop)}
    exec(compile(PYTHON[0], "README.md", "exec", dont_inherit=True), names)
    app = names["app"]
    assert isinstance(app, FastAPI)
    answer = asyncio.run(_post(app, "/users/7/welcome"))
    assert (answer.status_code, [*answer.json()]) == (202, ["task"])


async def _post(app: FastAPI, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(app)
    client = httpx.AsyncClient(transport=transport, base_url="http://app")
    async with app.router.lifespan_context(app), client:
        return await client.post(path)


@pytest.mark.anyio
@pytest.mark.parametrize("text", _named(SNIPPETS))
async def test_a_recipe_does_what_it_says(text: str, tmp_path: Path) -> None:
    """Its lines run, and what they assert is so."""
    tasks = TaskManager(tmp_path / "app.db")
    names: dict[str, object] = {name: getattr(inloop, name) for name in inloop.__all__}
    names |= {"tasks": tasks, "timedelta": timedelta, "datetime": datetime, "UTC": UTC}
    code = compile(text, "README.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    async with tasks:
        async with tasks.connect() as db:
            await db.execute("create table users (id integer, name text)")
        async with asyncio.timeout(10):
            run = eval(code, names | {"__name__": "recipe"})
            if inspect.iscoroutine(run):
                await run


def _write(text: str, folder: Path) -> None:
    """The files that a block shows, each under the comment that names it."""
    for name, content in re.findall(r"^# (\w+\.py)$\n(.*?)(?=^# \w+\.py$|\Z)", text, re.M | re.S):
        (folder / name).write_text(content)


def test_the_modules_of_the_recipe_work_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task function declared in one module is run by the app in another."""
    _write(next(text for text in FILES if "# main.py" in text), tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    app = importlib.import_module("main").app
    assert asyncio.run(_post(app, "/mails/7")).json() == "ana@example.org wrote to 7"
    for module in ("main", "mails", "background"):
        del sys.modules[module]


def test_the_test_of_the_recipe_passes(tmp_path: Path) -> None:
    """The test that is shown passes as it stands."""
    _write(next(text for text in FILES if "# test_reminder.py" in text), tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    run = _run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path)
    assert run.stdout.splitlines()[-1].startswith("1 passed"), run.stdout + run.stderr


# ---- nothing is left out


def _parameters(function: Callable[..., object]) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


def _public(kind: type) -> list[str]:
    return [name for name, _ in inspect.getmembers(kind, callable) if not name.startswith("_")]


# What these are is said where they come from: types of what is returned, and of annotations.
RETURNED = {
    "AsyncTaskFunction", "Attempt", "AuditEntry", "Call", "ErrorText", "Event", "LogLine", "Owner",
    "Page", "Pause", "Progress", "Recovered", "Recovery", "State", "SyncTaskFunction", "Task",
    "TaskFunction", "TaskHandle",
}  # fmt: skip

SHOWN: dict[str, list[str]] = {
    "setting": _parameters(TaskManager),
    "option": [name for name in _parameters(TaskManager.task) if name != "function"],
    "using": _parameters(TaskFunction.using),
    "verb": _public(TaskManager),
    "handle": _public(TaskHandle),
    "function": _public(TaskFunction),
    "name": sorted(set(inloop.__all__) - RETURNED),
    "testing": list(inloop.testing.__all__),
    "state": list(inloop.State),
    "event": ["moved", "rescheduled", "asked", "progress", "logged"],
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, id=f"{kind}-{name}") for kind in SHOWN for name in SHOWN[kind]]
)
def test_it_is_in_the_readme(name: str) -> None:
    """Every setting, option, verb, error, state and event is named in code on the page."""
    code = re.findall(r"`[^`\n]+`", README) + [text for _, text in BLOCKS]
    assert any(re.search(rf"\b{re.escape(name)}\b", text) for text in code)
