"""The main job: a file of 50,000 rows is imported while its processes are killed.

The oracle is a table without a unique constraint, compared with the file row by row, and the
children of every chunk. Where the kills fall is drawn anew in each run, and printed.
"""

import os
import random
import signal
from pathlib import Path

import httpx
import pytest
from served import (
    ALONE,
    CHUNK,
    THREE,
    Served,
    Standing,
    check_children,
    check_rows,
    expected,
    make_csv,
    run_again,
    served,
    wait_until,
)

ROWS = 50_000
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def test_an_import_goes_on_where_kill_9_stopped_it(tmp_path: Path) -> None:
    """Killed at four random places and started again, it brings every row once."""
    file = tmp_path / "orders.csv"
    make_csv(file, ROWS)
    with served(tmp_path, ALONE) as server:
        task_id = server.upload(file)
        last = Standing()
        for rows in _places(0.02, 0.7, 4):
            last = _wait_until(server, task_id, rows, last)
            server.kill()
            server.start()
        _check_result(server, task_id, file)
        assert server.get(f"/imports/{task_id}")["attempt"] == 5
        # As if each had been killed between its commit and its end.
        assert run_again(tmp_path / "imports.db", "add_up") == ROWS // CHUNK
        _wait_for_children(server)
        server.stop()
    _check_oracle(tmp_path, task_id, file)


def test_three_workers_share_an_import_while_one_and_then_all_are_killed(tmp_path: Path) -> None:
    """A worker's death hands its import to a sibling; the death of all, to the next start."""
    file = tmp_path / "orders.csv"
    make_csv(file, ROWS)
    with served(tmp_path, THREE) as server:
        server.wait_for("/", lambda answer: len(answer["processes"]) == 3)
        task_id = server.upload(file)
        last = Standing()
        for rows in _places(0.02, 0.4, 2):
            last = _wait_until(server, task_id, rows, last)
            os.kill(last.process, signal.SIGKILL)
        for rows in _places(0.4, 0.7, 1):
            last = _wait_until(server, task_id, rows, last)
            server.kill()
            server.start()
        _check_result(server, task_id, file)
        assert server.get(f"/imports/{task_id}")["attempt"] == 4
        server.stop()
    _check_oracle(tmp_path, task_id, file)


def test_a_file_that_holds_no_orders_fails_and_says_why(tmp_path: Path) -> None:
    """The import ends failed; its error is shown, and told to whoever awaits the result."""
    file = tmp_path / "other.csv"
    file.write_text("name,colour\ncherry,red\n")
    with served(tmp_path, ALONE) as server:
        task_id = server.upload(file)
        shown = server.wait_for(f"/imports/{task_id}", lambda answer: answer["state"] == "failed")
        assert shown["error"].startswith("ValueError: ")
        told = httpx.get(f"{server.url}/imports/{task_id}/result")
        assert told.status_code == 500
        assert shown["error"] in told.json()["detail"]
        assert httpx.get(f"{server.url}/imports/nothing").status_code == 404


def _places(least: float, most: float, n: int) -> list[int]:
    return sorted(round(random.uniform(least, most) * ROWS) for _ in range(n))


def _wait_until(server: Served, task_id: str, rows: int, last: Standing) -> Standing:
    now = wait_until(server, task_id, rows, last)
    print(f"killed in attempt {now.attempt}, process {now.process}, with {now.rows:,} rows in")  # noqa: T201
    return now


def _check_result(server: Served, task_id: str, file: Path) -> None:
    orders = expected(file)
    cents = sum(order[-1] for order in orders)
    wanted = {"rows": ROWS, "amount": f"{cents // 100}.{cents % 100:02}"}
    assert server.get(f"/imports/{task_id}/result") == wanted
    _wait_for_children(server)


def _wait_for_children(server: Served) -> None:
    server.wait_for("/", lambda answer: answer["tasks"]["chunks"] == {"succeeded": 200})


def _check_oracle(folder: Path, task_id: str, file: Path) -> None:
    check_rows(folder / "imports.db", task_id, file)
    retried = check_children(folder / "imports.db", task_id, ROWS)
    assert retried == len([n for n in range(ROWS // CHUNK) if n % 3])
