"""A web app that imports large CSV files, and after `kill -9` goes on where it stopped.

    pip install uv && uv run --group example python -m examples.imports

`POST /imports` stores the file and answers at once; a task reads it in chunks. All that a chunk
brings is committed by one transaction of the app's own connection: its rows, the place in the file
to go on from, and two more tasks. So nothing is ever missing, and nothing is there twice, although
no table here has a unique constraint on it.
"""

import asyncio
import csv
import json
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from pathlib import Path
from uuid import uuid4

import aiosqlite
import anyio
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from examples.make_csv import ROWS, make_csv
from inloop import (
    InloopError,
    Retry,
    TaskManager,
    TaskNotFound,
    current_task,
    exponential,
    progress,
)

DATA = Path(os.environ.get("IMPORTS_DATA", Path(__file__).parent / "data")).absolute()
CHUNK = 500
# Seconds to rest after each chunk, so that there is time to watch it, and to kill it.
REST = float(os.environ.get("IMPORTS_REST", "0.1"))

logging.basicConfig(level=logging.INFO)
log = logging.getLogger("imports")

tasks = TaskManager(DATA / "imports.db", grace=3)


# ---- the tasks

TABLES = """
create table if not exists orders (import text, n integer, customer text, country text, cents int);
create table if not exists place (import text primary key, offset integer, rows integer);
create table if not exists effect (task text, what text, import text, first integer, cents integer);
create index if not exists orders_of_import on orders (import, n);
create index if not exists effect_of_task on effect (task);
"""

ADD_ORDER = "insert into orders values (?, ?, ?, ?, ?)"
FIND_PLACE = "select offset, rows from place where import = ?"
KEEP_PLACE = """
insert into place values (:import, :offset, :rows)
on conflict do update set offset = :offset, rows = :rows
"""
SUM = "select sum(cents) from orders where import = ? and n between ? and ?"


@dataclass
class Imported:
    """What an import has brought."""

    rows: int
    amount: Decimal


@tasks.task(queue="imports")
async def import_orders(file: Path) -> Imported:
    """Read a file of orders, chunk by chunk, on from where the attempt before this one came."""
    me = current_task().id
    size = (await anyio.Path(file).stat()).st_size
    async with tasks.connect() as db:
        offset, rows = await find_place(db, me)
        log.info("import of %s, from row %d on, in process %d", file.name, rows + 1, os.getpid())
        while True:
            chunk, offset = await asyncio.to_thread(read_chunk, file, offset)
            if not chunk:
                break
            first, rows = rows + 1, rows + len(chunk)

            # One transaction: it begins with the first insert, and all of it is there, or nothing.
            await db.executemany(ADD_ORDER, as_orders(me, first, chunk))
            await db.execute(KEEP_PLACE, {"import": me, "offset": offset, "rows": rows})
            await add_up.using(connection=db).enqueue(me, first, rows)
            await tell_warehouse.using(connection=db).enqueue(me, first, rows)
            await db.commit()

            progress(offset, size, f"{rows:,} rows")
            log.info("rows %d to %d are in", first, rows)
            await asyncio.sleep(REST)
        cents = await sum_of(db, me, 1, rows)
    return Imported(rows, Decimal(cents) / 100)


@tasks.task(queue="chunks")
async def add_up(import_id: str, first: int, last: int) -> int:
    """The sum of a chunk, in cents."""
    async with tasks.connect() as db:
        cents = await sum_of(db, import_id, first, last)
        await record(db, "sum", import_id, first, cents)
    return cents


@tasks.task(queue="chunks", retry=Retry(attempts=5, backoff=exponential(base=0.2)), timeout=10)
async def tell_warehouse(import_id: str, first: int, last: int) -> None:
    """Tell a service that is often down: of three chunks one fails once, and one twice."""
    if current_task().failures < first // CHUNK % 3:
        raise ConnectionError("the warehouse does not answer")
    async with tasks.connect() as db:
        await record(db, "told", import_id, first, 0)


async def record(
    db: aiosqlite.Connection, what: str, import_id: str, first: int, cents: int
) -> None:
    """Write down what this task did, once: it runs again if it is killed just after the commit."""
    me = current_task().id
    await db.execute(
        "insert into effect select :task, :what, :import, :first, :cents "
        "where not exists (select 1 from effect where task = :task)",
        {"task": me, "what": what, "import": import_id, "first": first, "cents": cents},
    )
    await db.commit()


async def find_place(db: aiosqlite.Connection, import_id: str) -> tuple[int, int]:
    """The offset in the file, and the rows before it, that the last commit has kept."""
    for offset, rows in await db.execute_fetchall(FIND_PLACE, (import_id,)):
        return offset, rows
    return 0, 0


async def sum_of(db: aiosqlite.Connection, import_id: str, first: int, last: int) -> int:
    """The sum of some orders, in cents."""
    [(cents,)] = await db.execute_fetchall(SUM, (import_id, first, last))
    return cents or 0


def read_chunk(file: Path, offset: int) -> tuple[list[list[str]], int]:
    """The rows from an offset in the file on, up to CHUNK, and the offset behind them."""
    with file.open("rb") as lines:
        lines.seek(offset)
        rows = csv.reader(line.decode() for line in iter(lines.readline, b""))
        if offset == 0:
            next(rows, None)  # the header
        return list(islice(rows, CHUNK)), lines.tell()


def as_orders(
    import_id: str, first: int, chunk: list[list[str]]
) -> list[tuple[str, int, str, str, int]]:
    """The rows of a chunk as they are stored; `ValueError` if they are no orders."""
    return [
        (import_id, n, customer, country, int(Decimal(amount) * 100))
        for n, (_, customer, country, amount) in enumerate(chunk, first)
    ]


# ---- the app


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """The app's tables first: tasks go on as soon as the manager is entered."""
    DATA.mkdir(parents=True, exist_ok=True)
    async with tasks.connect() as db:
        await db.executescript(TABLES)
    async with tasks:
        yield


class Readable(JSONResponse):
    """JSON for people: this app is used with curl."""

    def render(self, content: object) -> bytes:
        return json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n"


app = FastAPI(lifespan=lifespan, default_response_class=Readable)


@app.post("/imports", status_code=202)
async def upload(request: Request) -> dict[str, str]:
    """Take a CSV file as the body of the request; when this answers, file and task are on disk."""
    file = DATA / f"{uuid4()}.csv"
    async with await anyio.open_file(file, "xb") as out:
        async for part in request.stream():
            await out.write(part)
        await out.flush()
        await asyncio.to_thread(os.fsync, out.wrapped.fileno())
    handle = await import_orders.enqueue(file)
    return {
        "task": handle.id,
        "progress": str(request.url_for("show", task_id=handle.id)),
        "result": str(request.url_for("result", task_id=handle.id)),
    }


@app.get("/imports/{task_id}")
async def show(task_id: str) -> dict[str, object]:
    """How far an import has come and in which process, and the end of its log."""
    task = await tasks.get(task_id)
    pids = {owner.id: owner.pid for owner in await tasks.owners()}
    lines = await tasks.logs(task_id)
    return {
        "state": task.label,
        "attempt": task.attempt,
        "process": task.owner and pids.get(task.owner),
        "progress": task.progress and task.progress._asdict(),
        "error": task.error and str(task.error),
        "log": [line.text for line in lines[-5:]],
    }


@app.get("/imports/{task_id}/result")
async def result(task_id: str) -> Imported:
    """Wait for an import to end, in whichever process it runs, and answer with its result."""
    return await tasks.handle(task_id, returns=import_orders)


@app.get("/")
async def overview() -> dict[str, object]:
    """The processes at work, and how many tasks of each queue are in each state."""
    return {
        "processes": [owner.pid for owner in await tasks.owners()],
        "tasks": await tasks.counts(),
    }


@app.exception_handler(InloopError)
async def explain(request: Request, error: InloopError) -> Readable:
    return Readable({"detail": str(error)}, 404 if isinstance(error, TaskNotFound) else 500)


WELCOME = """
The import example runs on {url} in process {pid}. In another terminal:

  Upload {rows:,} rows          curl --data-binary @{csv} {url}/imports
  Watch, or await the end     curl one of the two addresses that come back
  Count all tasks             curl {url}
  Kill it in the middle       kill -9 {pid}

Start it again then: it goes on where it stopped.
"""


def main() -> None:
    """Make a file to upload, tell where to go, and serve on $PORT (8000) of this machine."""
    port = int(os.environ.get("PORT", "8000"))
    sample = DATA / "orders.csv"
    if not sample.exists():
        make_csv(sample)
    csv_, url = os.path.relpath(sample), f"http://127.0.0.1:{port}"
    print(WELCOME.format(url=url, pid=os.getpid(), rows=ROWS, csv=csv_), flush=True)
    uvicorn.run(app, host="127.0.0.1", port=port, timeout_graceful_shutdown=1)


if __name__ == "__main__":
    main()
