"""`kill -9` of one busy process, again and again, on one file."""

import random
from pathlib import Path

import pytest
from crash_driver import BUSY, Campaign, Fall, Worker, some_points, wait_until, workers
from crash_oracle import verify
from crash_report import Seed, tell

AT_START = ("migrating",) * 4 + ("registering",) * 2
IN_RECOVERY = ("recovering",) * 4 + ("recovered",) * 4
KILLS = 60


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_at_any_instant_one_process_loses_nothing(
    tmp_path: Path, seed: Seed, request: pytest.FixtureRequest
) -> None:
    """Whatever it was doing when it was killed, all that was acknowledged is done, and once."""
    rng = random.Random(seed)
    campaign = Campaign(tmp_path)
    plan = some_points(rng, KILLS - len(AT_START) - len(IN_RECOVERY))
    recoveries = dict(zip(rng.sample(range(len(plan)), len(IN_RECOVERY)), IN_RECOVERY, strict=True))
    with workers(tmp_path, 1) as (worker,):
        for point in AT_START:
            campaign.falls.append(fall_at_start(worker, point))
        for n, point in enumerate(plan):
            worker.start()
            wait_until(worker.is_ready, "the process is busy")
            wait_until(lambda: False, "never", 0) if False else None
            campaign.falls.append(fall_when_busy(campaign, worker, point, rng))
            if n in recoveries:
                campaign.falls.append(fall_at_start(worker, recoveries[n]))
        worker.finish()
    tell(request, *campaign.report(), verify(tmp_path))
