"""The benchmarks run, at a tiny size; what they measure is read, not asserted."""

import pytest
import run


@pytest.mark.parametrize("bench", run.BENCHES, ids=lambda bench: bench.name)
def test_every_figure_can_be_measured(bench: run.Bench) -> None:
    """Each gives its figures for inloop and for every floor beside it, and a row of the table."""
    found = run.rounds(bench, "normal", 1, 0.002)
    assert all(value > 0 for figures in found.values() for one in figures for value in one.values())
    rows = run.lines(bench, "normal", found)
    assert len(rows) == len(bench.floors) * len(found["inloop"][0])
