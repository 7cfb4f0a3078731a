"""`kill -9` among three busy processes on one file."""

import time
from pathlib import Path

import pytest
from crash_driver import Campaign, Worker, some_points, wait_until, workers
from crash_oracle import verify
from crash_report import chance, tell

ROUNDS = 46
OF_BUSY = 55
# Points that a sibling comes by when it takes over from the one that was killed.
BY_SIBLING = ("recovering", "recovered") * 3


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_among_siblings_nothing_is_lost_or_done_twice(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """One or all of three processes are killed, siblings too while they take over; all is done."""
    rng = chance(request)
    campaign = Campaign(tmp_path)
    points = some_points(rng, ROUNDS)
    in_takeover = dict(zip(rng.sample(range(ROUNDS), len(BY_SIBLING)), BY_SIBLING, strict=True))
    with workers(tmp_path, 3, "--slots=34", "--longest=0.3") as three:
        for worker in three:
            worker.start()
        for n, point in enumerate(points):
            victims = list(three) if n % 10 == 5 else [rng.choice(three)]
            campaign.live(rng, *victims)
            siblings = [worker for worker in three if worker not in victims]
            if siblings and n in in_takeover:
                victims += kill_in_takeover(campaign, point, victims, siblings, in_takeover[n])
            else:
                campaign.kill(point, *victims)
            for victim in victims:
                victim.start()
        campaign.live(rng, *three)
        campaign.kill("random", *three)
        three[0].finish()
    tell(request, *campaign.report())
    tell(request, verify(tmp_path))
    campaign.hit(OF_BUSY)


def kill_in_takeover(
    campaign: Campaign, point: str, victims: list[Worker], siblings: list[Worker], then: str
) -> list[Worker]:
    """Kill, and kill the sibling that comes to recover; who fell besides."""
    for sibling in siblings:
        sibling.strike(then)
    campaign.kill(point, *victims)
    wait_until(lambda: any(sibling.is_dead() for sibling in siblings), "a sibling takes over")
    for sibling in siblings:
        sibling.vitals["armed"] = 0
    time.sleep(0.05)
    fallen = [sibling for sibling in siblings if sibling.is_dead()]
    campaign.falls += [sibling.fall(then) for sibling in fallen]
    return fallen
