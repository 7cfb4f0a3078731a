"""`kill -9` of one busy process, again and again, on one file."""

import time
from pathlib import Path

import pytest
from crash_driver import Campaign, some_points, wait_until, workers
from crash_oracle import verify
from crash_report import chance, tell

KILLS = 62
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
            worker.start(armed=point)
            campaign.falls.append(worker.has_fallen(point))
        for n, point in enumerate(when_busy):
            worker.start()
            wait_until(worker.is_ready, "the process is busy")
            time.sleep(rng.uniform(0.0, 0.5))
            campaign.let_suspects_end()
            campaign.falls.append(worker.kill(point))
            if n in followed_by:
                worker.start(armed=followed_by[n])
                campaign.falls.append(worker.has_fallen(followed_by[n]))
        worker.finish()
    tell(request, *campaign.report(), verify(tmp_path))
    assert len(campaign.falls) == KILLS
    idle = [str(fall) for fall in campaign.falls if fall.is_at_work and not fall.is_busy]
    assert not idle, f"these kills found nothing to break: {idle}"
    assert any(fall.vitals["writing"] == 2 for fall in campaign.falls), "none fell in a commit"
