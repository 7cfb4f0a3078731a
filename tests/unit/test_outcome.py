"""How an attempt ended, and what becomes of its task: every request against every end."""

from asyncio import CancelledError
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from inloop import GiveUp, Progress, Retry, Snooze, State, exponential
from inloop._exchange import Claimed, Move
from inloop._model import ErrorText
from inloop._outcome import (
    Circumstances,
    End,
    Raised,
    Request,
    Returned,
    Stop,
    StrayCancellation,
    decide,
    held,
)

NOW = 1_000_000_000
SECOND = 1_000_000
CLAIMED = Claimed(
    seq=7, id="id", name="work", queue="default", attempt=4, failures=1, deaths=0, due=NOW - 50,
    created=NOW - 60, started=NOW - 40, priority=3, key=None, tags=None, options=None,
    expires=None, arguments="{}",
)  # fmt: skip
ERROR = ErrorText("ValueError", "bad", "")
THRICE = Retry(attempts=3, backoff=exponential(base=10, jitter=0))


def raised(error: BaseException, *, final: bool = False) -> Raised:
    return Raised(error, ERROR, final)


ENDS: dict[str, End] = {
    "returned": Returned("42"),
    "raised": raised(ValueError("bad")),
    "raised, final": raised(ValueError("bad"), final=True),
    "timed out": raised(TimeoutError()),
    "gave up": raised(GiveUp("no use")),
    "snoozed": raised(Snooze(30)),
    "cancelled": raised(CancelledError()),
    "stray": raised(StrayCancellation()),
    "exit": raised(SystemExit(1)),
}
REQUESTS: dict[str, Request | None] = {
    "nothing": None,
    "interrupt": Request(Stop.INTERRUPT, reason="shutdown"),
    "time out": Request(Stop.TIMEOUT),
    "cancel": Request(Stop.CANCEL, actor="ana", reason="wrong file"),
}


@dataclass(frozen=True)
class Becomes:
    """What the Move says besides what every Move says."""

    to: State
    failures: int = 1
    due: int | None = None
    first: bool = False
    result: str | None = None
    error: ErrorText | None = None
    reason: str | None = None
    actor: str = "engine"


S = State
# The second failure of three: tried again after 10 * 2 ** (2 - 1) seconds.
AGAIN = Becomes(S.SCHEDULED, failures=2, due=NOW + 20 * SECOND, error=ERROR)
FAILED = Becomes(S.FAILED, failures=2, error=ERROR)
OK = Becomes(S.SUCCEEDED, result="42")
BACK = Becomes(S.QUEUED, first=True, reason="shutdown")
CANCELLED = Becomes(S.CANCELLED, reason="wrong file", actor="ana")
CANCELLED_BADLY = replace(CANCELLED, error=ERROR)
SNOOZED = Becomes(S.SCHEDULED, due=NOW + 30 * SECOND, reason="snoozed for 30 s")

#               nothing   interrupt   time out   cancel
TABLE: dict[str, tuple[Becomes, Becomes, Becomes, Becomes]] = {
    "returned": (
        OK,
        OK,
        replace(OK, reason="finished after its timeout"),
        replace(OK, reason="cancellation ignored"),
    ),
    "raised": (AGAIN, BACK, AGAIN, CANCELLED_BADLY),
    "raised, final": (FAILED, BACK, FAILED, CANCELLED_BADLY),
    "timed out": (AGAIN, BACK, AGAIN, CANCELLED_BADLY),
    "gave up": (FAILED, BACK, FAILED, CANCELLED_BADLY),
    "snoozed": (SNOOZED, BACK, AGAIN, CANCELLED_BADLY),
    "cancelled": (FAILED, BACK, FAILED, CANCELLED),
    "stray": (AGAIN, BACK, AGAIN, CANCELLED),
    "exit": (FAILED, BACK, FAILED, CANCELLED_BADLY),
}
CASES = [
    pytest.param(request, end, becomes, id=f"{request}-{end}")
    for end, row in TABLE.items()
    for request, becomes in zip(REQUESTS, row, strict=True)
]


def circumstances(
    request: Request | None = None,
    *,
    expects: State = S.RUNNING,
    retry: Retry = THRICE,
    progress: Progress | None = None,
) -> Circumstances:
    return Circumstances(NOW, expects, retry, request, progress)


def test_the_table_has_every_end() -> None:
    """A new kind of end or request needs a new row or column here."""
    assert set(TABLE) == set(ENDS)
    assert {r.stop for r in REQUESTS.values() if r} == set(Stop)


@pytest.mark.parametrize(("request_", "end", "becomes"), CASES)
def test_every_end_under_every_request(request_: str, end: str, becomes: Becomes) -> None:
    """The engine's own request decides first, then what the code did."""
    assert decide(CLAIMED, ENDS[end], circumstances(REQUESTS[request_])) == Move(
        seq=7,
        task_id="id",
        expects=S.RUNNING,
        attempt=4,
        to=becomes.to,
        at=NOW,
        failures=becomes.failures,
        due=becomes.due,
        first=becomes.first,
        result=becomes.result,
        error=becomes.error,
        reason=becomes.reason,
        actor=becomes.actor,
    )


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("expects", [S.RUNNING, S.PAUSED])
def test_every_move_names_what_it_expects(end: End, expects: State) -> None:
    """A Move carries the state and attempt it started from, so that a stale one cannot match."""
    move = decide(CLAIMED, end, circumstances(expects=expects))
    assert (move.expects, move.attempt, move.seq) == (expects, 4, 7)


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_every_move_carries_unsaved_progress(end: End) -> None:
    """What a task told last is stored with its last move."""
    told = Progress(3, 10, "almost")
    assert decide(CLAIMED, end, circumstances(progress=told)).progress == told


def test_the_last_allowed_failure_ends_it() -> None:
    """`attempts` counts failures, the last one included."""
    move = decide(CLAIMED, ENDS["raised"], circumstances(retry=Retry(attempts=2)))
    assert (move.to, move.failures, move.due) == (S.FAILED, 2, None)


def test_attempts_that_did_not_fail_do_not_use_up_tries() -> None:
    """Interrupted and snoozed attempts raise `attempt`, and only `failures` is compared."""
    tired = CLAIMED._replace(attempt=50, failures=0)
    assert decide(tired, ENDS["raised"], circumstances()).to is S.SCHEDULED


def test_expiry_is_counted_anew_from_the_new_due() -> None:
    """A task that was worth starting within ten seconds has ten seconds at its next try, too."""
    brief = CLAIMED._replace(expires=CLAIMED.due + 10 * SECOND)
    move = decide(brief, ENDS["raised"], circumstances())
    assert move.due is not None
    assert move.expires == move.due + 10 * SECOND


@pytest.mark.parametrize("end", ["returned", "gave up"])
def test_expiry_stays_with_a_task_that_has_ended(end: str) -> None:
    """So that retrying it by hand can give it the same time again."""
    brief = CLAIMED._replace(expires=CLAIMED.due + 10 * SECOND)
    assert decide(brief, ENDS[end], circumstances()).expires == brief.expires


def test_a_task_that_its_function_cannot_take_is_held() -> None:
    """Neither failed nor retried: a person decides, and reads why."""
    move = held(CLAIMED, raised(TypeError("no such parameter"), final=True), circumstances())
    assert (move.to, move.failures, move.error, move.reason) == (S.HELD, 1, ERROR, "bad")


def test_an_interruption_without_a_reason_still_says_what_it_was() -> None:
    """The history never has a move back to the queue that explains nothing."""
    move = decide(CLAIMED, ENDS["cancelled"], circumstances(Request(Stop.INTERRUPT)))
    assert move.reason == "interrupted"


def broken(failures: int) -> float:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("backoff", "told"),
    [
        pytest.param(broken, "ZeroDivisionError", id="raises"),
        pytest.param(lambda n: None, "TypeError", id="gives nothing"),
        pytest.param(lambda n: "soon", "ValueError", id="gives text"),
        pytest.param(lambda n: float("inf"), "", id="never"),
    ],
)
def test_a_broken_backoff_does_not_hide_the_error(
    backoff: Callable[[int], float], told: str
) -> None:
    """The task fails with its own error, and the reason says why it was not tried again."""
    move = decide(CLAIMED, ENDS["raised"], circumstances(retry=Retry(3, backoff=backoff)))
    assert (move.to, move.error) == (S.FAILED, ERROR)
    assert move.reason is not None
    assert "backoff" in move.reason
    assert told in move.reason


@pytest.mark.parametrize("seconds", [-5.0, float("nan")])
def test_a_backoff_below_zero_means_at_once(seconds: float) -> None:
    """A delay cannot lie in the past."""
    retry = Retry(3, backoff=lambda n: seconds)
    assert decide(CLAIMED, ENDS["raised"], circumstances(retry=retry)).due == NOW


def test_stops_are_ordered_by_gravity() -> None:
    """A cancellation goes before a timeout, and that before an interruption."""
    assert Stop.INTERRUPT < Stop.TIMEOUT < Stop.CANCEL
