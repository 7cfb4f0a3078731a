"""find: "Tasks that fit, newest first." """

import random
from dataclasses import replace
from typing import Any

import pytest

from inloop._exchange import Filter
from inloop._model import ErrorText, State

from ..rig import HOUR, SECOND, START, Rig

pytestmark = pytest.mark.anyio


async def find(rig: Rig, wanted: Filter, limit: int = 100) -> list[str]:
    return [task.id for task in await rig.store.find(wanted, limit, None)]


async def test_newest_come_first(rig: Rig) -> None:
    """Without a filter: all, newest first, and no next page."""
    ids = [await rig.put() for _ in range(3)]
    page = await rig.store.find(Filter(), 10, None)
    assert [task.id for task in page] == ids[::-1]
    assert page.next is None


async def test_found_tasks_are_whole(rig: Rig) -> None:
    """What is found equals what `get` gives."""
    task_id = await rig.finish(State.FAILED, tags='["a"]', key="k")
    (found,) = await rig.store.find(Filter(), 10, None)
    assert found == await rig.get(task_id)


@pytest.mark.parametrize("state", list(State))
async def test_by_state(rig: Rig, state: State) -> None:
    """One state, several, or none at all."""
    ids = {each: await rig.bring(each, queue=f"q-{each}", owned=True) for each in State}
    assert await find(rig, Filter(states=frozenset({state}))) == [ids[state]]
    others = frozenset(State) - {state}
    assert set(await find(rig, Filter(states=others))) == {ids[each] for each in others}
    assert await find(rig, Filter(states=frozenset())) == []


async def test_by_name_and_queue(rig: Rig) -> None:
    """Both are exact, and every word that is given must fit."""
    ids = {
        (name, queue): await rig.put(name, queue)
        for name in ("mail", "report")
        for queue in ("a", "ab")
    }
    assert await find(rig, Filter(name="mail", queue="a")) == [ids["mail", "a"]]
    assert set(await find(rig, Filter(name="mail"))) == {ids["mail", "a"], ids["mail", "ab"]}
    assert set(await find(rig, Filter(queue="ab"))) == {ids["mail", "ab"], ids["report", "ab"]}
    assert await find(rig, Filter(name="mai")) == []


async def test_by_tag(rig: Rig) -> None:
    """A tag is one whole word of the task's tags."""
    one = await rig.put(tags='["red","blue"]')
    other = await rig.put(tags='["blue"]')
    await rig.put()
    assert await find(rig, Filter(tag="red")) == [one]
    assert await find(rig, Filter(tag="blue")) == [other, one]
    assert await find(rig, Filter(tag="re")) == []


async def test_by_time_of_creation(rig: Rig) -> None:
    """From `since` on, before `until`."""
    ids = []
    for _ in range(4):
        ids.append(await rig.put())
        rig.now += SECOND
    wanted = Filter(since=START + SECOND, until=START + 3 * SECOND)
    assert await find(rig, wanted) == [ids[2], ids[1]]
    assert await find(rig, Filter(since=START + 3 * SECOND)) == [ids[3]]
    assert await find(rig, Filter(until=START + SECOND)) == [ids[0]]


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("Welcome", True), ("WELCOME", True), ("come mr", True), ("Mail-7", True), ("mail", True),
        ("boom", True), ("Ärger", True), ("ßtrasse", True), ("日本", True), ("%", False),
        ("w_lcome", False), ("nowhere", False),
    ],
)  # fmt: skip
async def test_by_text(rig: Rig, text: str, is_found: bool) -> None:
    """It is found in name, id, key, arguments and error, as it is, without regard to ASCII case."""
    claimed = await rig.start(
        key="Mail-7", arguments='{"subject":"Welcome Mr Ärger","to":"ßtrasse 日本"}'
    )
    await rig.end(rig.move(claimed, State.FAILED, error=ErrorText("ValueError", "Boom", "")))
    await rig.put("report", arguments='{"a":1}')
    assert await find(rig, Filter(text=text)) == ([claimed.id] if is_found else [])


async def test_by_id(rig: Rig) -> None:
    """A task's id is a text to find it by."""
    ids = [await rig.put() for _ in range(3)]
    assert await find(rig, Filter(text=ids[1])) == [ids[1]]


async def test_a_deleted_task_is_not_listed(rig: Rig) -> None:
    """Hidden until it is restored."""
    task_id = await rig.finish()
    await rig.store.control("delete", task_id, rig.by())
    assert await find(rig, Filter()) == []
    await rig.store.control("restore", task_id, rig.by())
    assert await find(rig, Filter()) == [task_id]


async def test_every_word_together_equals_a_plain_search(rig: Rig) -> None:
    """Random filters find exactly what going through all tasks by hand finds."""
    chance = random.Random(5)
    words: dict[str, list[Any]] = {
        "name": ["mail", "report"], "queue": ["a", "b"], "tag": ["x", "y"],
        "states": [frozenset({State.SCHEDULED}), frozenset({State.QUEUED, State.SCHEDULED})],
        "text": ["x", "mail", "7"], "since": [START + HOUR], "until": [START + 2 * HOUR],
    }  # fmt: skip
    for n in range(120):
        rig.now = START + n * HOUR // 40
        await rig.put(
            chance.choice(["mail", "report"]), chance.choice(["a", "b"]),
            wait=chance.choice([0, 9]), tags=chance.choice([None, '["x"]', '["x","y"]']),
            arguments=f'{{"n":{n}}}', key=chance.choice([None, f"x{n}"]),
        )  # fmt: skip
    everything = list(await rig.store.find(Filter(), 1000, None))
    found = 0
    for _ in range(150):
        three = chance.sample(sorted(words), 3)
        chosen: dict[str, Any] = {word: chance.choice(words[word]) for word in three}
        wanted = replace(Filter(), **chosen)
        expected = [
            task.id
            for task in everything
            if (wanted.name is None or task.name == wanted.name)
            and (wanted.queue is None or task.queue == wanted.queue)
            and (wanted.tag is None or wanted.tag in task.tags)
            and (wanted.states is None or task.state in wanted.states)
            and (wanted.since is None or task.created.timestamp() >= wanted.since / 1e6)
            and (wanted.until is None or task.created.timestamp() < wanted.until / 1e6)
            and (
                wanted.text is None
                or any(
                    wanted.text in where
                    for where in (task.name, task.id, task.key or "", task.arguments_json)
                )
            )
        ]
        found += len(expected)
        assert await find(rig, wanted, 1000) == expected, wanted
    assert found > 100


# ---- find_ids: "As `find`, but only their ids."


async def test_ids_alone(rig: Rig) -> None:
    """The same tasks in the same order, page by page, with the same cursors."""
    for n in range(12):
        await rig.put(queue=f"q{n % 2}")
    wanted = Filter(queue="q1")
    whole, ids = await rig.store.find(wanted, 4, None), await rig.store.find_ids(wanted, 4, None)
    assert list(ids) == [task.id for task in whole]
    assert ids.next == whole.next
    assert ids.next is not None
    rest = await rig.store.find_ids(wanted, 4, ids.next)
    assert (len(rest), rest.next) == (2, None)
    assert list(await rig.store.find_ids(Filter(text="nowhere"), 4, None)) == []


# ---- page by page


async def test_pages_show_each_once(rig: Rig) -> None:
    """Page after page, each task is shown once, also while new ones come in and old ones go."""
    made = [await rig.put(queue=f"q{n % 2}") for n in range(25)]
    shown: list[str] = []
    cursor: str | None = None
    while True:
        page = await rig.store.find(Filter(), 4, cursor)
        shown += [task.id for task in page]
        await rig.put()
        if page.next is None:
            break
        cursor = page.next
        await rig.sql("delete from inloop_task where id = ?", shown[-1])
    assert shown == made[::-1]


async def test_a_full_last_page_has_no_next(rig: Rig) -> None:
    """`next` says that there is more, not that the page is full."""
    for _ in range(4):
        await rig.put()
    page = await rig.store.find(Filter(), 4, None)
    assert (len(page), page.next) == (4, None)
    page = await rig.store.find(Filter(), 3, None)
    assert page.next is not None
    assert len(await rig.store.find(Filter(), 3, page.next)) == 1


async def test_pages_of_a_filter(rig: Rig) -> None:
    """A filter holds over all pages."""
    made = [await rig.put(queue=f"q{n % 3}") for n in range(30)]
    wanted = Filter(queue="q1")
    first = await rig.store.find(wanted, 6, None)
    second = await rig.store.find(wanted, 6, first.next)
    assert [task.id for task in [*first, *second]] == made[1::3][::-1]
    assert second.next is None


@pytest.mark.parametrize(
    "cursor", ["", "x", "s12", "c1", "cy0x", "é", "a" * 5000, "\x00", "czEy.", "c9mx"]
)
async def test_a_cursor_that_no_page_gave(rig: Rig, cursor: str) -> None:
    """`ValueError`, naming the parameter."""
    await rig.put()
    with pytest.raises(ValueError, match="cursor="):
        await rig.store.find(Filter(), 10, cursor)
