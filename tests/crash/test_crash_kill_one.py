"""`kill -9` of one busy process, again and again, on one file."""

from pathlib import Path

import pytest
from crash_driver import Campaign, some_points, workers
from crash_oracle import verify
from crash_report import chance, tell

KILLS = 74
OF_BUSY = 50
AT_START = ("migrating",) * 4 + ("registering",) * 2
IN_RECOVERY = ("recovering",) * 4 + ("recovered",) * 4


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_at_any_instant_one_process_loses_nothing(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Whatever it was doing when it was killed, all that was acknowledged is done, and once."""
    rng = chance(request)
    campaign = Campaign(tmp_path)
    when_busy = some_points(rng, KILLS - len(AT_START) - len(IN_RECOVERY))
    # Where there is something to recover.
    at_work = [n for n, point in enumerate(when_busy) if point not in ("leaving", "terminated")]
    followed_by = dict(zip(rng.sample(at_work, len(IN_RECOVERY)), IN_RECOVERY, strict=True))
    with workers(tmp_path, 1) as (worker,):
        for point in AT_START:
            campaign.kill_at_start(worker, point)
        for n, point in enumerate(when_busy):
            worker.start()
            campaign.live(rng, worker)
            campaign.kill(point, worker)
            if n in followed_by:
                campaign.kill_at_start(worker, followed_by[n])
        worker.finish()
    tell(request, *campaign.report())
    tell(request, verify(tmp_path))
    campaign.hit(OF_BUSY)
