"""The main job: a file of 50,000 rows is imported while its processes are killed.

The oracle is a table without a unique constraint, compared with the file row by row, and the
children of every chunk. Where the kills fall is drawn anew in each run, and printed.
"""

import os
import random
import signal
from pathlib import Path

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
    served,
    standing,
)

ROWS = 50_000
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def test_an_import_goes_on_where_kill_9_stopped_it(tmp_path: Path) -> None:
    """Killed at four random places and started again, it brings every row once."""
    file = tmp_path / "orders.csv"
    make_csv(file, ROWS)
    with served(tmp_path, ALONE) as server:
        task_id = server.upload(file)
        last = Standing(0, 0, 0, 0)
        for share in sorted(random.uniform(0.02, 0.9) for _ in range(4)):
            last = _wait_until(server, task_id, share, last)
            server.kill()
            server.start()
        _check_result(server, task_id, file)
        assert server.get(f"/imports/{task_id}")["attempt"] == 5
        assert server.stop() in (0, -signal.SIGTERM)
    _check_oracle(tmp_path, task_id, file)


def test_three_workers_share_an_import_while_some_and_then_all_are_killed(tmp_path: Path) -> None:
    """A worker's death hands its import to a sibling; the death of all, to the next start."""
    file = tmp_path / "orders.csv"
    make_csv(file, ROWS)
    with served(tmp_path, THREE) as server:
        server.wait_for("/", lambda answer: len(answer["processes"]) == 3)
        task_id = server.upload(file)
        last = Standing(0, 0, 0, 0)
        for share in sorted(random.uniform(0.02, 0.5) for _ in range(2)):
            last = _wait_until(server, task_id, share, last)
            assert last.pid in server.get("/")["processes"]
            os.kill(last.pid, signal.SIGKILL)
        _wait_until(server, task_id, random.uniform(0.5, 0.9), last)
        server.kill()
        server.start()
        _check_result(server, task_id, file)
        assert server.get(f"/imports/{task_id}")["attempt"] == 4
    _check_oracle(tmp_path, task_id, file)


def _wait_until(server: Served, task_id: str, share: float, last: Standing) -> Standing:
    """Wait until a later attempt than the last has gone on, and the import is so far."""

    def is_there(answer: object) -> bool:
        now = standing(answer)
        return (
            now is not None
            and now.attempt > last.attempt
            and now.rows > last.rows
            and now.share >= share
        )

    now = standing(server.wait_for(f"/imports/{task_id}", is_there))
    assert now is not None
    print(f"killed in attempt {now.attempt}, process {now.pid}, after {now.rows:,} rows")  # noqa: T201
    return now


def _check_result(server: Served, task_id: str, file: Path) -> None:
    orders = expected(file)
    cents = sum(order[-1] for order in orders)
    wanted = {"rows": ROWS, "amount": f"{cents // 100}.{cents % 100:02}"}
    assert server.get(f"/imports/{task_id}/result") == wanted
    server.wait_for("/", lambda answer: answer["tasks"]["chunks"] == {"succeeded": 200})


def _check_oracle(folder: Path, task_id: str, file: Path) -> None:
    check_rows(folder / "imports.db", task_id, file)
    retried = check_children(folder / "imports.db", task_id, ROWS)
    assert retried == len([n for n in range(ROWS // CHUNK) if n % 3])
