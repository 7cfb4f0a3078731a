"""control: "One verb on one task: asks its owner, or moves it at once."

Every verb in every state, with and without an attempt that is alive, against one table.
"""

from typing import NamedTuple

import pytest

from inloop import IllegalMove, TaskNotFound
from inloop._model import FINAL, LEGAL, ErrorText, State, to_datetime

from ..rig import HOUR, SECOND, Rig

pytestmark = pytest.mark.anyio

S, Q, R, W, P, H, OK, BAD, OFF = State

VERBS = ("cancel", "pause", "resume", "retry", "fail", "delete", "restore")


class Case(NamedTuple):
    """A state, and whether an attempt of a living owner has the task in hand."""

    state: State
    owned: bool

    def __str__(self) -> str:
        return f"{self.state}-{'owned' if self.owned else 'free'}"


CASES = [
    Case(S, False), Case(Q, False), Case(R, True), Case(W, True), Case(W, False), Case(P, True),
    Case(P, False), Case(H, False), Case(OK, False), Case(BAD, False), Case(OFF, False),
]  # fmt: skip

NO = "refused"  # IllegalMove
FALSE = "false"  # told that there was nothing to do
STAYS = "stays"  # True, and nothing changes
ASKS = "asks"  # True, and its owner is asked
HIDES = "hides"  # True, and it is no longer listed

# By case in the order above; a state: where the task is moved at once.
TABLE: dict[str, list[State | str]] = {
    #           S      Q      R      W own  W free P own  P free H      OK     BAD    OFF
    "cancel":  [OFF,   OFF,   ASKS,  ASKS,  OFF,   ASKS,  OFF,   OFF,   FALSE, FALSE, FALSE],
    "pause":   [P,     P,     ASKS,  ASKS,  P,     STAYS, STAYS, NO,    FALSE, FALSE, FALSE],
    "resume":  [STAYS, STAYS, STAYS, STAYS, STAYS, ASKS,  Q,     NO,    FALSE, FALSE, FALSE],
    "retry":   [NO,    NO,    NO,    NO,    NO,    NO,    NO,    Q,     Q,     Q,     Q],
    "fail":    [NO,    NO,    NO,    NO,    NO,    NO,    NO,    BAD,   NO,    NO,    NO],
    "delete":  [NO,    NO,    NO,    NO,    NO,    NO,    NO,    NO,    HIDES, HIDES, HIDES],
    "restore": [FALSE] * 11,
}  # fmt: skip

CELLS = [
    pytest.param(verb, case, TABLE[verb][at], id=f"{verb}-{case}")
    for verb in VERBS
    for at, case in enumerate(CASES)
]


@pytest.mark.parametrize(("verb", "case", "outcome"), CELLS)
async def test_every_verb_in_every_state(
    rig: Rig, verb: str, case: Case, outcome: State | str
) -> None:
    """The table holds; what is moved is moved legally, what is refused leaves no trace."""
    task_id = await rig.bring(case.state, owned=case.owned)
    before, history = await rig.get(task_id), await rig.store.events(task_id)
    audit = await rig.audits(100)
    rig.now += SECOND
    by = rig.by("so it is", "ben")

    if outcome == NO:
        with pytest.raises(IllegalMove, match=task_id):
            await rig.store.control(verb, task_id, by)
        assert await rig.get(task_id) == before
        assert await rig.store.events(task_id) == history
        assert await rig.audits(100) == audit
        return

    assert await rig.store.control(verb, task_id, by) is (outcome != FALSE)
    after = await rig.get(task_id)
    new = (await rig.store.events(task_id))[len(history) :]
    (line,) = (await rig.audits(100))[: -len(audit) or None]
    assert (line.action, line.target, line.actor, line.reason) == (verb, task_id, "ben", "so it is")
    if isinstance(outcome, State):
        assert after.state is outcome
        assert outcome in LEGAL[case.state]
        assert (after.actor, after.reason, after.moved) == ("ben", "so it is", to_datetime(rig.now))
        assert (after.owner, after.asked) == (None, None)
        assert [(e.what, e.origin, e.to, e.actor, e.reason) for e in new] == [
            ("moved", case.state, outcome, "ben", "so it is")
        ]
        assert (after.finished is not None) == (outcome in FINAL)
    elif outcome == ASKS:
        assert (after.state, after.asked, after.owner) == (case.state, verb, before.owner)
        assert [(e.what, e.reason) for e in new] == [("asked", f"{verb}: so it is")]
        (ask,) = await rig.store.asks()
        assert (ask.verb, ask.actor, ask.reason) == (verb, "ben", "so it is")
    elif outcome == HIDES:
        assert after.deleted == to_datetime(rig.now)
        assert after.state is case.state
        assert new == []
    else:
        assert after == before
        assert new == []


def test_the_table_is_whole() -> None:
    """Every state is in the table, for every verb, and every move in it is legal."""
    assert {case.state for case in CASES} == set(State)
    assert all(len(row) == len(CASES) for row in TABLE.values())
    for row in TABLE.values():
        for case, outcome in zip(CASES, row, strict=True):
            assert not isinstance(outcome, State) or outcome in LEGAL[case.state]


@pytest.mark.parametrize("verb", VERBS)
async def test_an_unknown_task_is_told(rig: Rig, verb: str) -> None:
    """`TaskNotFound`, and no line in the audit."""
    with pytest.raises(TaskNotFound, match="nobody"):
        await rig.store.control(verb, "nobody", rig.by())
    assert await rig.audits(10) == []


# ---- what comes after an ask


class Second(NamedTuple):
    """A state, what was asked, the verb that comes next, and what is asked then."""

    state: State
    first: str
    verb: str
    then: str | None

    def __str__(self) -> str:
        return f"{self.state}-{self.first}-{self.verb}"


SECONDS = [
    Second(R, "pause", "pause", "pause"),
    Second(R, "pause", "resume", "resume"),
    Second(R, "pause", "cancel", "cancel"),
    Second(R, "cancel", "cancel", "cancel"),
    Second(R, "cancel", "resume", "cancel"),
    Second(P, "resume", "resume", "resume"),
    Second(P, "resume", "pause", None),
    Second(P, "resume", "cancel", "cancel"),
    Second(P, "cancel", "resume", "cancel"),
    Second(P, "cancel", "cancel", "cancel"),
    Second(W, "pause", "resume", "resume"),
    Second(W, "pause", "cancel", "cancel"),
    Second(W, "cancel", "resume", "cancel"),
]


@pytest.mark.parametrize("case", SECONDS, ids=str)
async def test_the_last_word_counts_but_cancel_stays(rig: Rig, case: Second) -> None:
    """A second word takes the place of the first one, and nothing takes back a cancel."""
    task_id = await rig.bring(case.state, owned=True)
    await rig.store.control(case.first, task_id, rig.by())
    assert await rig.store.control(case.verb, task_id, rig.by("again"))
    task = await rig.get(task_id)
    assert (task.state, task.asked) == (case.state, case.then)
    events = [event for event in await rig.store.events(task_id) if event.what == "asked"]
    repeated = case.then == case.first
    expected = 1 if repeated or case.then is None else 2
    earlier = 1 if case.state is P else 0  # the pause by which it came to be paused
    assert len(events) == expected + earlier


@pytest.mark.parametrize("state", [R, W, P])
async def test_what_is_being_cancelled_cannot_be_paused(rig: Rig, state: State) -> None:
    """A pause after a cancel is refused by name."""
    task_id = await rig.bring(state, owned=True)
    await rig.store.control("cancel", task_id, rig.by())
    with pytest.raises(IllegalMove, match="being cancelled"):
        await rig.store.control("pause", task_id, rig.by())
    assert (await rig.get(task_id)).asked == "cancel"


# ---- there and back


@pytest.mark.parametrize("state", [S, Q, W])
async def test_a_resumed_task_returns_to_where_it_was(rig: Rig, state: State) -> None:
    """`scheduled`, `queued` and `waiting` tasks can be paused and return to where they were."""
    task_id = await rig.bring(state)
    due = (await rig.get(task_id)).due
    await rig.store.control("pause", task_id, rig.by())
    assert (await rig.get(task_id)).paused_from is state
    await rig.store.control("resume", task_id, rig.by())
    task = await rig.get(task_id)
    assert (task.state, task.due, task.paused_from) == (state, due, None)


async def test_a_paused_attempt_whose_owner_is_gone_runs_first(rig: Rig) -> None:
    """Paused while it ran, and its process gone: resumed, it is queued before all others."""
    task_id = await rig.bring(P)
    await rig.put(priority=9)
    await rig.store.control("resume", task_id, rig.by())
    (first, _) = (await rig.claim()).claimed
    assert (first.id, first.attempt, first.resumed) == (task_id, 2, True)


async def test_a_task_paused_before_it_ran_keeps_its_place(rig: Rig) -> None:
    """Paused while queued and resumed, it is no further ahead than before."""
    first, second = await rig.put(), await rig.put()
    await rig.store.control("pause", first, rig.by())
    assert await rig.claim_ids() == [second]
    await rig.store.control("resume", first, rig.by())
    (claimed,) = (await rig.claim()).claimed
    assert (claimed.id, claimed.resumed) == (first, False)


async def test_a_scheduled_task_stays_paused_when_it_is_due(rig: Rig) -> None:
    """Falling due does not wake a paused task; resumed, it runs at once."""
    task_id = await rig.put(wait=1)
    await rig.store.control("pause", task_id, rig.by())
    rig.now += HOUR
    assert await rig.claim_ids() == []
    await rig.store.control("resume", task_id, rig.by())
    assert await rig.claim_ids() == [task_id]


@pytest.mark.parametrize("state", [OK, BAD, OFF, H])
async def test_retry_starts_anew(rig: Rig, state: State) -> None:
    """Retried: due now, failures from zero, result, error and progress gone, history kept."""
    claimed = await rig.start(expires=rig.now + 5 * SECOND)
    ended = rig.move(
        claimed, state, failures=3, result="1", error=ErrorText("E", "", ""),
        expires=claimed.expires,
    )  # fmt: skip
    await rig.end(ended)
    rig.now += HOUR
    assert await rig.store.control("retry", claimed.id, rig.by())
    task = await rig.get(claimed.id)
    assert (task.state, task.attempt, task.failures) == (Q, 1, 0)
    assert (task.result, task.error, task.progress, task.finished) == (None, None, None, None)
    assert task.due == to_datetime(rig.now)
    assert task.expires is not None
    assert task.expires.total_seconds() == 5
    (again,) = (await rig.claim()).claimed
    assert (again.id, again.attempt, again.resumed) == (claimed.id, 2, False)
    assert [attempt.number for attempt in await rig.store.attempts(claimed.id)] == [1, 2]


async def test_retry_of_a_task_whose_key_is_taken(rig: Rig) -> None:
    """ "`IllegalMove` naming the holder"."""
    first = await rig.finish(key="k")
    holder = await rig.put(key="k")
    with pytest.raises(IllegalMove, match=holder):
        await rig.store.control("retry", first, rig.by())
    await rig.store.control("cancel", holder, rig.by())
    assert await rig.store.control("retry", first, rig.by())


async def test_a_held_task_that_has_its_key_is_retried(rig: Rig) -> None:
    """A held task has not ended: its own key is not in its way."""
    task_id = await rig.bring(H, key="k")
    assert await rig.store.control("retry", task_id, rig.by())


async def test_a_deleted_task_is_not_retried(rig: Rig) -> None:
    """It must be restored first, and the error says so."""
    task_id = await rig.finish()
    await rig.store.control("delete", task_id, rig.by())
    with pytest.raises(IllegalMove, match="restore"):
        await rig.store.control("retry", task_id, rig.by())


async def test_a_held_task_that_is_failed_has_an_error(rig: Rig) -> None:
    """Failed by decision: the reason given is its error."""
    task_id = await rig.bring(H)
    await rig.store.control("fail", task_id, rig.by("hopeless"))
    task = await rig.get(task_id)
    assert task.error is not None
    assert (task.state, task.error.message) == (BAD, "hopeless")


@pytest.mark.parametrize("state", [OK, BAD, OFF])
async def test_delete_and_restore(rig: Rig, state: State) -> None:
    """Deleted twice is deleted; restored, it is listed and counted as before."""
    task_id = await rig.bring(state)
    assert await rig.store.control("delete", task_id, rig.by())
    assert await rig.store.counts() == {}
    assert not await rig.store.control("delete", task_id, rig.by())
    assert await rig.store.control("restore", task_id, rig.by())
    assert await rig.store.counts() == {"default": {state: 1}}
    assert not await rig.store.control("restore", task_id, rig.by())


async def test_an_owner_that_died_need_not_obey(pair: tuple[Rig, Rig]) -> None:
    """A task that is cancelled while its owner is dead ends cancelled, recovered before or not."""
    one, other = pair
    claimed = await one.start()
    await one.die()
    assert await other.store.control("cancel", claimed.id, other.by())
    await other.until_state(claimed.id, OFF)


# ---- control_many: "One verb on many tasks; those that do not allow it are passed over. How many
# did."


async def test_many_at_once(rig: Rig) -> None:
    """Those that allow it are done, the others and unknown ones passed over, and it is counted."""
    ids = [await rig.bring(state, queue=f"q-{state}", owned=True) for state in State]
    # Held and finished ones cannot be paused; a paused one is paused.
    assert await rig.store.control_many("pause", [*ids, "nobody"], rig.by()) == 5
    assert [await rig.state(task_id) for task_id in ids[:2]] == [P, P]
    assert (await rig.get(ids[2])).asked == "pause"
    assert await rig.store.control_many("delete", ids, rig.by()) == 3


async def test_none_of_many(rig: Rig) -> None:
    """No ids, nothing done."""
    assert await rig.store.control_many("cancel", [], rig.by()) == 0
