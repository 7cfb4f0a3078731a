"""Legal moves: one table, in code and in the database, which refuses every other move itself.

"One table in one file lists the legal moves; every other is refused in code and by the store."
"""

import pytest

from inloop._model import ENTRY, FINAL, LEGAL, State, is_legal

from ..rig import Rig

pytestmark = pytest.mark.anyio

PAIRS = [(origin, to) for origin in State for to in State if origin is not to]


async def test_the_store_holds_the_same_table(rig: Rig) -> None:
    """`inloop_legal` is LEGAL, move by move."""
    rows = await rig.sql("select origin, state from inloop_legal")
    assert {(State(origin), State(to)) for origin, to in rows} == {
        (origin, to) for origin, all_to in LEGAL.items() for to in all_to
    }


def test_the_table_says_what_the_contract_says() -> None:
    """The way from scheduled to the ends, the detours, and that only a retry leaves an end."""
    S, Q, R, W, P, H, OK, BAD, OFF = State
    for origin, to in [
        (S, Q), (Q, R), (R, OK), (R, BAD), (R, OFF), (R, W), (R, P), (W, R), (R, Q), (R, H),
        (S, P), (Q, P), (W, P), (P, S), (P, Q), (P, W), (P, R), (H, Q), (H, BAD), (Q, OFF),
    ]:  # fmt: skip
        assert is_legal(origin, to)
    for end in FINAL:
        assert LEGAL[end] == {Q}
    for state in State:
        assert not is_legal(state, state)
    assert {S, Q, R} == ENTRY


@pytest.mark.parametrize("state", list(State))
async def test_an_apps_own_sql_cannot_move_a_task_illegally(rig: Rig, state: State) -> None:
    """For every state: an illegal move by raw SQL raises, a legal one is done and recorded."""
    for to in State:
        if to is state:
            continue
        task_id = await rig.bring(state, queue=f"q-{to}", owned=True)
        history = await rig.moves(task_id)
        move = (
            "update inloop_task set state = ?, owner = case when ? then 1 end, "
            "finished = case when ? then 1 end where id = ?"
        )
        has_owner = to is State.RUNNING
        if is_legal(state, to):
            await rig.sql(move, to, has_owner, to in FINAL, task_id)
            assert await rig.moves(task_id) == [*history, (state, to)]
        else:
            with pytest.raises(Exception, match="illegal move"):
                await rig.sql(move, to, has_owner, to in FINAL, task_id)
            assert await rig.moves(task_id) == history
        assert await rig.state(task_id) is (to if is_legal(state, to) else state)
        await rig.sql("delete from inloop_task")


@pytest.mark.parametrize("state", [s for s in State if s not in ENTRY])
async def test_nothing_enters_in_another_state(rig: Rig, state: State) -> None:
    """ "A new task enters as scheduled, queued, or running": any other insert raises."""
    await rig.put()
    with pytest.raises(Exception, match="illegal move: a new task"):
        await rig.sql(
            "insert into inloop_task (id, name, queue, state, rank, priority, due, created, moved,"
            " actor, arguments, finished) values ('x', 'f', 'q', ?, 0, 0, 0, 0, 0, 'a', '{}',"
            " case when ? then 1 end)",
            state,
            state in FINAL,
        )
    assert len(await rig.sql("select 1 from inloop_task")) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        "state = 'lost'", "owner = 1", "attempt = -1", "failures = -1", "queue = ''", "name = ''",
        "finished = 1", "asked = 'dance'", "on_crash = 'shrug'", "state = 'running'",
    ],
)  # fmt: skip
async def test_a_row_cannot_contradict_itself(rig: Rig, wrong: str) -> None:
    """What makes no sense is refused by the database, whoever writes it."""
    task_id = await rig.put()
    before = await rig.get(task_id)
    with pytest.raises(Exception, match=r"CHECK|illegal|keeps"):
        await rig.sql(f"update inloop_task set {wrong} where id = ?", task_id)
    assert await rig.get(task_id) == before
