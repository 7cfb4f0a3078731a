"""audit, pause_queue, resume_queue, set_queue, and what can be read of them."""

import pytest

from inloop._model import AuditEntry, Pause, to_datetime

from ..rig import HOUR, SECOND, Rig, lanes

pytestmark = pytest.mark.anyio


# ---- audit: "Remember one act of control."


async def test_an_act_is_remembered(rig: Rig) -> None:
    """Who did what to which target, when and why."""
    await rig.store.audit("cancel_where", "name=mail", rig.by("spring", "ben"))
    (line,) = await rig.audits(10)
    assert line == AuditEntry(
        line.id, to_datetime(rig.now), "ben", "cancel_where", "name=mail", "spring"
    )


async def test_acts_are_read_newest_first_page_by_page(rig: Rig) -> None:
    """The `id` of the last one read is where the next page begins."""
    for n in range(5):
        await rig.store.audit("a", f"t{n}", rig.by())
    page = await rig.audits(2)
    assert [line.target for line in page] == ["t4", "t3"]
    page = await rig.audits(2, page[-1].id)
    assert [line.target for line in page] == ["t2", "t1"]
    page = await rig.audits(2, page[-1].id)
    assert [line.target for line in page] == ["t0"]


async def test_the_audit_is_append_only(rig: Rig) -> None:
    """No line can be changed, by anybody's SQL."""
    await rig.store.audit("a", "t", rig.by())
    with pytest.raises(Exception, match="append-only"):
        await rig.sql("update inloop_audit set actor = 'nobody'")
    (line,) = await rig.audits(10)
    assert line.actor == "ana"


# ---- pause_queue: "Start nothing new in a queue, '' being all of them." (What a pause does to
# claims is in test_claim.)


async def test_a_pause_is_shown(rig: Rig) -> None:
    """With its queue, since when, until when, by whom and why; everything first, as None."""
    await rig.store.pause_queue("mail", rig.now + HOUR, rig.by("slow", "ben"))
    await rig.store.pause_queue("", None, rig.by(None))
    at = to_datetime(rig.now)
    assert await rig.store.pauses(rig.now) == [
        Pause(None, at, None, "ana", None),
        Pause("mail", at, to_datetime(rig.now + HOUR), "ben", "slow"),
    ]


async def test_a_pause_that_has_ended_is_not_shown(rig: Rig) -> None:
    """At its end it is over."""
    await rig.store.pause_queue("mail", rig.now + HOUR, rig.by())
    assert len(await rig.store.pauses(rig.now + HOUR - 1)) == 1
    assert await rig.store.pauses(rig.now + HOUR) == []


async def test_a_second_pause_takes_the_place_of_the_first(rig: Rig) -> None:
    """Paused again, the new end, actor and reason count."""
    await rig.store.pause_queue("mail", None, rig.by("first"))
    rig.now += SECOND
    await rig.store.pause_queue("mail", rig.now + HOUR, rig.by("second", "ben"))
    (pause,) = await rig.store.pauses(rig.now)
    assert pause == Pause(
        "mail", to_datetime(rig.now), to_datetime(rig.now + HOUR), "ben", "second"
    )


async def test_a_pause_outlives_its_owner(full: Rig) -> None:
    """Pausing survives restarts, with reason and actor."""
    task_id = await full.put()
    await full.store.pause_queue("default", None, full.by("slow", "ben"))
    await full.close()
    await full.open()
    (pause,) = await full.store.pauses(full.now)
    assert (pause.actor, pause.reason) == ("ben", "slow")
    assert await full.claim_ids() == []
    await full.store.resume_queue("default", full.by())
    assert await full.claim_ids() == [task_id]


# ---- resume_queue: "Lift that pause."


async def test_lifting_is_told(rig: Rig) -> None:
    """Lifted, nothing is paused; lifting what is not paused does no harm."""
    await rig.store.pause_queue("mail", None, rig.by())
    await rig.store.resume_queue("mail", rig.by())
    await rig.store.resume_queue("mail", rig.by())
    assert await rig.store.pauses(rig.now) == []


async def test_pausing_and_lifting_are_in_the_audit(rig: Rig) -> None:
    """Each act by its own word; all of them: `pause_all`, `resume_all`."""
    for queue in ("mail", ""):
        await rig.store.pause_queue(queue, None, rig.by())
        await rig.store.resume_queue(queue, rig.by())
    await rig.store.set_queue("mail", 3, rig.by())
    lines = [(line.action, line.target) for line in await rig.audits(10)]
    assert lines == [
        ("set_queue", "mail: concurrency=3"), ("resume_all", ""), ("pause_all", ""),
        ("resume_queue", "mail"), ("pause_queue", "mail"),
    ]  # fmt: skip


# ---- set_queue: "Change the slots of a queue over all processes; None: what the code says."


async def test_the_slots_of_a_queue_change_for_all_owners(pair: tuple[Rig, Rig]) -> None:
    """Set by one, obeyed by all, until the code's word counts again."""
    one, other = pair
    for _ in range(6):
        await one.put()
    await one.store.set_queue("default", 2, one.by())
    assert len(await other.claim_ids()) == 2
    assert await one.claim_ids() == []
    await other.store.set_queue("default", None, other.by())
    assert len(await one.claim_ids(lanes=lanes(default=5))) == 3


async def test_no_slots_at_all(rig: Rig) -> None:
    """0 starts nothing."""
    await rig.put()
    await rig.store.set_queue("default", 0, rig.by())
    assert await rig.claim_ids() == []
