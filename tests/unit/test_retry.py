"""When a failed attempt is tried again: values in, seconds out."""

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inloop import GiveUp, Retry, Snooze, exponential
from inloop._retry import NEVER, dump, load


class Flaky(Exception):
    """A user's own error."""


class VeryFlaky(Flaky):
    """One derived from it."""


AT_ONCE = exponential(base=0)


@pytest.mark.parametrize(
    ("failures", "seconds"), [(1, 1), (2, 2), (3, 4), (4, 8), (12, 2048), (13, 3600), (5000, 3600)]
)
def test_exponential_doubles_up_to_an_hour(failures: int, seconds: float) -> None:
    """By default a second, then twice as long each time, never more than an hour."""
    assert exponential(jitter=0)(failures) == seconds


def test_exponential_takes_its_numbers() -> None:
    """`base * factor ** (failures - 1)`, at most `maximum`."""
    backoff = exponential(base=2, factor=3, maximum=50, jitter=0)
    assert [backoff(n) for n in (1, 2, 3, 4)] == [2, 6, 18, 50]


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_jitter_stays_within_its_share(failures: int, jitter: float) -> None:
    """Spread over plus and minus that share of the delay."""
    plain = exponential(jitter=0)(failures)
    spread = exponential(jitter=jitter)(failures)
    assert plain * (1 - jitter) - 1e-9 <= spread <= plain * (1 + jitter) + 1e-9


def test_jitter_spreads() -> None:
    """Tasks that failed together do not come back together."""
    backoff = exponential(base=100, jitter=0.5)
    delays = [backoff(1) for _ in range(200)]
    assert min(delays) < 80
    assert max(delays) > 120


@pytest.mark.parametrize(
    "options",
    [
        {"base": -1},
        {"factor": 0.5},
        {"maximum": -1},
        {"jitter": -0.1},
        {"jitter": 1.1},
        {"base": float("nan")},
        {"jitter": float("nan")},
    ],
)
def test_exponential_refuses_what_cannot_be_meant(options: dict[str, float]) -> None:
    """The message shows the number and its bounds."""
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=rf"{name}=-?{abs(value)}\b.*must be"):
        exponential(**options)


@pytest.mark.parametrize("attempts", [0, -1])
def test_attempts_below_one_are_refused(attempts: int) -> None:
    """The message names the value and says what 1 means."""
    with pytest.raises(ValueError, match=rf"attempts={attempts}.*1: no retry"):
        Retry(attempts)


@pytest.mark.parametrize("attempts", [1.5, "3", True, None])
def test_attempts_must_be_a_whole_number(attempts: object) -> None:
    """Anything else is a TypeError that shows it."""
    with pytest.raises(TypeError, match=r"attempts=.*whole number"):
        Retry(attempts)  # type: ignore[arg-type]


@pytest.mark.parametrize("option", ["on", "give_up_on"])
@pytest.mark.parametrize("kinds", [ValueError, [ValueError], ("ValueError",), (int,), (1,)])
def test_kinds_must_be_a_tuple_of_exception_types(option: str, kinds: object) -> None:
    """One type alone, or a list, is the usual slip; the message says what it must be."""
    with pytest.raises(TypeError, match=rf"{option}=.*tuple of exception types"):
        Retry(3, **{option: kinds})  # type: ignore[arg-type]


def test_backoff_must_be_callable() -> None:
    """A number of seconds is refused, and the message says what to write."""
    with pytest.raises(TypeError, match=r"backoff=5.*exponential"):
        Retry(3, backoff=5)  # type: ignore[arg-type]


# ---- deciding


RULES = {
    "any": (Retry(3, AT_ONCE), Flaky(), True),
    "not an Exception": (Retry(3, AT_ONCE), SystemExit(), False),
    "on it": (Retry(3, AT_ONCE, on=(Flaky,)), Flaky(), True),
    "on its base": (Retry(3, AT_ONCE, on=(Flaky,)), VeryFlaky(), True),
    "on another": (Retry(3, AT_ONCE, on=(OSError,)), Flaky(), False),
    "on what is derived": (Retry(3, AT_ONCE, on=(VeryFlaky,)), Flaky(), False),
    "on BaseException": (Retry(3, AT_ONCE, on=(BaseException,)), SystemExit(), True),
    "given up": (Retry(3, AT_ONCE, give_up_on=(Flaky,)), VeryFlaky(), False),
    "given up beats on": (Retry(3, AT_ONCE, on=(Flaky,), give_up_on=(Flaky,)), Flaky(), False),
    "given up on what is derived": (
        Retry(3, AT_ONCE, on=(Flaky,), give_up_on=(VeryFlaky,)),
        Flaky(),
        True,
    ),
    "GiveUp": (Retry(3, AT_ONCE), GiveUp(), False),
    "no attempts": (NEVER, Flaky(), False),
}


@pytest.mark.parametrize(("rule", "error", "again"), RULES.values(), ids=RULES)
def test_which_errors_are_tried_again(rule: Retry, error: BaseException, again: bool) -> None:
    """`on` chooses, `give_up_on` and GiveUp go before it."""
    assert (rule.delay(error, 1) is not None) is again


@pytest.mark.parametrize(("rule", "error", "again"), RULES.values(), ids=RULES)
def test_a_stored_rule_decides_alike(rule: Retry, error: BaseException, again: bool) -> None:
    """Also after a round trip through JSON, where exception types are names."""
    stored = load(json.loads(json.dumps(dump(rule))))
    assert (stored.delay(error, 1) is not None) is again


def test_the_number_of_tries_is_kept() -> None:
    """The n-th failure of n attempts is the last."""
    for rule in (Retry(3, AT_ONCE), load(dump(Retry(3, AT_ONCE)))):
        assert [rule.delay(Flaky(), n) for n in (1, 2, 3, 4)] == [0, 0, None, None]


def test_a_stored_backoff_gives_the_same_delays() -> None:
    """All four numbers of `exponential` survive."""
    rule = Retry(9, exponential(base=2, factor=3, maximum=50, jitter=0))
    stored = load(json.loads(json.dumps(dump(rule))))
    delays = [2, 6, 18, 50]
    assert [rule.delay(Flaky(), n) for n in (1, 2, 3, 4)] == delays
    assert [stored.delay(Flaky(), n) for n in (1, 2, 3, 4)] == delays


def test_two_types_of_one_name_are_told_apart() -> None:
    """A stored rule knows a type by its module as well."""
    stored = load(dump(Retry(3, AT_ONCE, on=(TimeoutError,))))
    mine = type("TimeoutError", (Exception,), {"__module__": "elsewhere"})
    assert stored.delay(mine(), 1) is None
    assert stored.delay(TimeoutError(), 1) is not None


def test_a_function_as_backoff_cannot_be_stored() -> None:
    """Only `exponential` can; the message says where a function may stand."""
    with pytest.raises(TypeError, match=r"exponential.*@tasks\.task\(retry=…\)"):
        dump(Retry(3, backoff=lambda n: n))


# ---- what a task raises


@pytest.mark.parametrize("seconds", [-1, float("inf"), float("nan")])
def test_snooze_needs_a_finite_time(seconds: float) -> None:
    """A task that would never come back is refused where it says so."""
    with pytest.raises(ValueError, match=r"seconds=.*finite"):
        Snooze(seconds)


def test_snooze_keeps_its_seconds() -> None:
    """Zero is allowed: run again at once, behind what is due already."""
    assert Snooze(0).seconds == 0
    assert Snooze(1.5).seconds == 1.5


def test_snooze_takes_a_timedelta() -> None:
    """As every duration in the API does."""
    assert Snooze(timedelta(minutes=2)).seconds == 120  # type: ignore[arg-type, unused-ignore]


def test_give_up_keeps_its_reason() -> None:
    """It is also what the error says."""
    assert GiveUp("no such account").reason == "no such account"
    assert str(GiveUp("no such account")) == "no such account"
