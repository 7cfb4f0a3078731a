"""Measures inloop beside its floors, in interleaved rounds, and prints a Markdown table.

    python tests/benchmarks/run.py                      all figures, five rounds
    python tests/benchmarks/run.py enqueue idle         some of them
    python tests/benchmarks/run.py --rounds 3 --scale 0.2

Machines are noisy: what counts is the ratio to the floor, taken in the same round.
"""

import argparse
import asyncio
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import figures

Measure = Callable[[Path, str, int, int], Awaitable[figures.Figures]]


@dataclass(frozen=True)
class Bench:
    """One figure: how much of what, of inloop and of the floors beside it."""

    name: str
    n: int
    callers: int
    inloop: Measure
    floors: Mapping[str, Measure]
    goals: Mapping[str, str]  # by durability


_ENQUEUE = {"group commit": figures.enqueue_grouped, "sqlite3": figures.enqueue_plain}
_END = {"group commit": figures.end_to_end_grouped, "sqlite3": figures.end_to_end_plain}

BENCHES = [
    Bench("enqueue 1", 1500, 1, figures.enqueue, _ENQUEUE, {"full": "≥ 1.5k/s"}),
    Bench("enqueue 10", 5000, 10, figures.enqueue, _ENQUEUE, {}),
    Bench("enqueue 100", 15000, 100, figures.enqueue, _ENQUEUE, {"full": "≥ 30k/s"}),
    Bench("enqueue 1000", 20000, 1000, figures.enqueue, _ENQUEUE, {"full": "≥ 40k/s"}),
    Bench(
        "enqueue_many 10,000",
        10000,
        10000,
        figures.enqueue_many,
        {"sqlite3": figures.enqueue_plain},
        {"full": "≥ 60k/s"},
    ),
    Bench(
        "end to end 100",
        10000,
        100,
        figures.end_to_end,
        _END,
        {"full": "≥ 12k/s", "normal": "≥ 15k/s"},
    ),
    Bench(
        "idle",
        300,
        1,
        figures.idle,
        {"group commit": figures.idle_grouped},
        {"full": "first ≤ 1.2 / 4 ms, result ≤ 2.0", "normal": "first ≤ 0.5 / 1.5, result ≤ 0.8"},
    ),
]


def measure(one: Measure, bench: Bench, durability: str, scale: float) -> figures.Figures:
    """One measurement, on a fresh file."""
    n = max(bench.callers if bench.callers < 1000 else 100, int(bench.n * scale), 20)
    with tempfile.TemporaryDirectory(prefix="inloop-bench-") as folder:

        async def run() -> figures.Figures:
            return await one(Path(folder), durability, n, min(bench.callers, n))

        return asyncio.run(run())


def rounds(bench: Bench, durability: str, n: int, scale: float) -> dict[str, list[figures.Figures]]:
    """`n` rounds of inloop and each floor, in turn."""
    measures = {"inloop": bench.inloop, **bench.floors}
    found: dict[str, list[figures.Figures]] = {who: [] for who in measures}
    for _ in range(n):
        for who, one in measures.items():
            found[who].append(measure(one, bench, durability, scale))
    return found


def spread(values: list[float]) -> str:
    def short(value: float) -> str:
        return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"

    middle = short(statistics.median(values))
    return f"{middle} ({short(min(values))} to {short(max(values))})"


def lines(bench: Bench, durability: str, found: dict[str, list[figures.Figures]]) -> list[str]:
    """A row for each figure and each floor."""
    rows = []
    for name in found["inloop"][0]:
        ours = [figure[name] for figure in found["inloop"]]
        what = f"{bench.name}: {name}" if name != "rate" else f"{bench.name} /s"
        goal = bench.goals.get(durability, "")
        for who in bench.floors:
            floor = [figure[name] for figure in found[who]]
            ratio = [mine / other for mine, other in zip(ours, floor, strict=True)]
            rows.append(
                f"| {what} | {durability} | {spread(ours)} | {who} | {spread(floor)} "
                f"| {spread(ratio)} | {goal} |"
            )
    return rows


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("figures", nargs="*", help="beginnings of names; default: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of tasks")
    parser.add_argument("--durability", choices=["full", "normal"], action="append")
    said = parser.parse_args(arguments)
    wanted = [b for b in BENCHES if not said.figures or b.name.startswith(tuple(said.figures))]
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(
        f"inloop {metadata.version('inloop')}, Python {platform.python_version()}, SQLite "
        f"{sqlite3.sqlite_version}, {os.cpu_count()} cores, load {load}; medians of {said.rounds} "
        f"interleaved rounds, least to most in brackets; the ratio is inloop to floor, round by "
        f"round.\n"
    )
    print("| figure | durability | inloop | beside | floor | ratio | goal |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for durability in said.durability or ["full", "normal"]:
        for bench in wanted:
            for line in lines(
                bench, durability, rounds(bench, durability, said.rounds, said.scale)
            ):
                print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
