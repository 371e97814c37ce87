"""How much each key may use: requests a minute, and dollars a day, of which all together have some.

    await limits.admit(client)                                   # or RateLimited
    hold = await limits.reserve(client, 0.002, usd_per_day=5)  # or BudgetExhausted
    limits.record_cost(record)                                          # what it came to
    limits.release(hold)

What a process counts it knows at once, and a reload forgets none of it. What others at the same
database count it need not know: it has a share of its own of what all of them may use, out of the
shared limits, and asks for more when that is used up. Without them it reads what others have
spent, and counts requests alone; and so it does while the database does not answer, for no request
is to fail by that.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from proxy.auth import Principal
from proxy.errors import BudgetReserved, BudgetSpent, RateLimited
from proxy.record import DAY_SECONDS, CallRecord, Target
from proxy.storage import MINUTE_SECONDS, SharedLimits

logger = logging.getLogger(__name__)

PATIENCE_SECONDS: Final = 1.0  # the longest that a request waits for the shared limits
WAIT_SECONDS: Final = 30.0  # and for dollars that are set aside for others
MAX_SHARED_WAITERS: Final = 100  # requests that do
_LOOK_SECONDS: Final = 1.0  # how often those look: other processes give back, and days begin
_THREADS: Final = 2  # for the shared limits alone: one that hangs keeps nothing else from a thread
_ALONE_SECONDS: Final = 5.0  # how long the shared limits is left alone that has not answered
_EMPTY_SECONDS: Final = 1.0  # before it is asked again for dollars, where there were none,
_HELD_SECONDS: Final = 0.1  # or none beyond what running requests may take
_NEVER: Final = float("-inf")  # when something is over that has not been
_DUST_USD: Final = 1e-6  # not worth giving back
_ROUNDING_SECONDS: Final = 1e-6

_Answer = TypeVar("_Answer")

_EVERYBODY: Final = ""  # which is no key's hash
_TOLD_SHARES: Final = (0.8, 1.0)


class _NotAsked(Exception):
    """The shared_limits was left alone meanwhile."""


class Reservation(NamedTuple):
    """Dollars that are set aside for a request, and of whose."""

    names: tuple[str, ...] = ()
    usd: float = 0.0


class _Used:
    """What one key has used: its place in the minute, and today's dollars."""

    __slots__ = (
        "ask_again_at", "day", "drawn_usd", "free_at", "full_at", "held_usd", "others_usd",
        "per_minute", "running", "taken", "usd", "waiting",
    )  # fmt: skip

    def __init__(self) -> None:
        self.full_at = 0.0  # when all of a minute's requests are free again, as counted here
        self.per_minute = 0  # the limit by which some were
        self.taken = 0  # out of the shared limits, and not answered yet
        self.waiting = 0  # for the shared limits to answer
        self.free_at = _NEVER  # before then it has none
        self.day = 0
        self.usd = 0.0  # counted by this process
        self.others_usd = 0.0
        self.running = 0  # requests with dollars set aside, of whatever day
        self.held_usd = 0.0  # what is set aside for them
        self.drawn_usd = 0.0  # what `usd` may be, out of the shared limits
        self.ask_again_at = _NEVER  # for more of it

    @property
    def bound_usd(self) -> float:
        """What is spent, or may be by what runs."""
        return self.usd + self.held_usd


class Limits:
    """What the keys have used so far, and whether it leaves them room.

    Requests: a bucket that holds a minute's requests and fills evenly, so that a burst is fine and
    a steady flow may be as large as the limit. Out of the shared limits each process has up to a
    twentieth of a minute's requests in hand: by so many, and no more, all together may pass the
    limit, when they had them from before.

    Dollars: what the cloud's answers cost since midnight UTC. That is known at their end, so the
    most that a request should cost is set aside at its beginning. While what is spent and set aside
    leaves anything, one more may begin: each process passes its share by one request at most.

    Args:
        shared_limits: where other processes count, too.
        clock: UNIX seconds.
        timer: seconds that no change of the clock makes more or fewer.
    """

    def __init__(
        self,
        *,
        shared_limits: SharedLimits | None = None,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shared_limits = shared_limits
        self._clock = clock
        self._timer = timer
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="shared-limits")
        self._used: dict[str, _Used] = {}
        self._told: dict[float, int] = {}  # by share of the budget, the last day it was told on
        self._trips: dict[tuple[str, str], asyncio.Task[None]] = {}  # to the shared limits
        self._late: set[tuple[str, str]] = set()  # of these, for which nobody waits any more
        self._alone_until = _NEVER
        self._is_told_alone = False
        self._ended = asyncio.Event()
        self._waiting = 0  # for dollars

    def day_start(self) -> float:
        """When the day began, as UNIX seconds."""
        return self._clock() // DAY_SECONDS * DAY_SECONDS

    def update_others_spending(
        self, spent_usd: Mapping[str | None, float], *, since: float
    ) -> None:
        """Take over what others than this process have spent, by the hash of the key.

        Within a day that only grows: a database that has lost rows gives no dollars back.

        Args:
            since: the beginning of the day that it is of.
        """
        totals = {_EVERYBODY: sum(spent_usd.values())}
        totals.update((name, usd) for name, usd in spent_usd.items() if name is not None)
        for name, usd in totals.items():
            if (used := self._of_day(name, since)) is not None:
                used.others_usd = max(used.others_usd, usd)

    def spent_today(self) -> float:
        """Dollars that the cloud has cost since midnight UTC, whoever asked."""
        return self._today_of(_EVERYBODY)

    # ── Requests of a minute ──────────────────────────────────────────────────────────────────

    async def admit(self, client: Principal | None) -> None:
        """Count a request. Raises RateLimited when the key has none left for now."""
        if client is None or client.requests_per_minute is None:
            return
        used, per_minute = self._of(client.key_hash), client.requests_per_minute
        each = MINUTE_SECONDS / per_minute
        if used.per_minute != per_minute:  # what was taken by another limit is gone
            used.per_minute, used.taken, used.free_at = per_minute, 0, _NEVER
        while not used.taken and self._may_ask("requests", client.key_hash):
            if (seconds := used.free_at - self._timer()) > 0:
                raise _rate_limited(per_minute, seconds)
            used.waiting += 1
            try:
                await self._join("requests", client.key_hash, partial(self._take, client.key_hash))
            finally:
                used.waiting -= 1
        now = self._clock()
        used.full_at = min(used.full_at, now + MINUTE_SECONDS)  # the clock may have been ahead
        full_at = max(used.full_at, now) + each
        if used.taken:
            used.taken -= 1
        elif (seconds := full_at - now - MINUTE_SECONDS) > _ROUNDING_SECONDS:
            raise _rate_limited(per_minute, seconds)
        used.full_at = full_at

    async def _take(self, name: str) -> None:
        assert self._shared_limits is not None
        used = self._of(name)
        per_minute, wanted = used.per_minute, used.waiting
        taken, seconds = await self._ask(
            partial(self._shared_limits.take_requests, name, per_minute, wanted=wanted)
        )
        # Those who waited for a late answer have been counted alone.
        if used.per_minute == per_minute and ("requests", name) not in self._late:
            used.taken += taken
            used.free_at = self._timer() + seconds

    # ── Dollars of a day ──────────────────────────────────────────────────────────────────────

    def has_budget(self, client: Principal | None, *, usd_per_day: float | None = None) -> bool:
        """Whether the key has dollars left for the cloud today, and everybody together has, as far
        as it is known here.

        Args:
            usd_per_day: what everybody together may spend.
        """
        return self._spent_limit(client, usd_per_day) is None

    def check_budget(self, client: Principal | None, *, usd_per_day: float | None = None) -> None:
        """Raise BudgetSpent where `has_budget` says no."""
        if (spent := self._spent_limit(client, usd_per_day)) is not None:
            raise self._refusal(*spent)

    def _spent_limit(
        self, client: Principal | None, usd_per_day: float | None
    ) -> tuple[str, float] | None:
        limits = _limits(client, usd_per_day)
        return next((one for one in limits if self._today_of(one[0]) >= one[1]), None)

    async def reserve(
        self,
        client: Principal | None,
        usd: float,
        *,
        usd_per_day: float | None = None,
        may_wait: bool = False,
    ) -> Reservation:
        """Set dollars aside for a request that is about to go to the cloud.

        Args:
            usd: what it costs at most.
            usd_per_day: what everybody together may spend.
            may_wait: for requests that run, when those may take all that is left; not for longer
                than WAIT_SECONDS, nor beside more than MAX_SHARED_WAITERS others.

        Raises:
            BudgetSpent: nothing is left.
            BudgetReserved: nothing that is not set aside for others.
        """
        limits = tuple(_limits(client, usd_per_day))
        began = None
        while lacking := next((one for one in limits if not self._has_room(*one)), None):
            name, budget = lacking
            used = self._of(name)
            now = self._timer()
            if self._may_ask("dollars", name) and now >= used.ask_again_at:
                await self._join("dollars", name, partial(self._draw, name, budget, usd))
                continue
            began = now if began is None else began
            if not (may_wait and used.held_usd and now < began + WAIT_SECONDS):
                raise self._refusal(name, budget)
            await self._wait_for_others(name, budget)
        for name, _ in limits:
            used = self._of(name)
            used.running += 1
            used.held_usd += usd
        return Reservation(tuple(name for name, _ in limits), usd)

    async def _wait_for_others(self, name: str, budget: float) -> None:
        if self._waiting >= MAX_SHARED_WAITERS:
            raise self._refusal(name, budget)
        self._waiting += 1
        try:
            # Not wait_for: before Python 3.12 it may lose a cancellation, of a client that is gone.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._ended.wait()
        finally:
            self._waiting -= 1

    def release(self, hold: Reservation) -> None:
        """A request is over for which dollars were set aside; what it cost is noted by now."""
        for name in hold.names:
            used = self._of(name)
            used.running -= 1
            used.held_usd = used.held_usd - hold.usd if used.running else 0.0
            used.ask_again_at = _NEVER
        if hold.names:
            self._ended.set()  # for all who wait, and anew for those who will
            self._ended = asyncio.Event()

    def _has_room(self, name: str, budget: float) -> bool:
        used = self._of_today(name)
        room = budget - used.others_usd
        if self._may_ask("dollars", name):
            room = min(room, used.drawn_usd)
        return used.bound_usd < room

    async def _draw(self, name: str, budget: float, usd: float) -> None:
        assert self._shared_limits is not None
        used = self._of_today(name)
        day = used.day
        drawn = await self._ask(
            partial(
                self._shared_limits.draw_dollars,
                day,
                name,
                budget=budget,
                own=used.usd,
                others=used.others_usd,
                need=used.held_usd + max(usd, _DUST_USD),  # what costs nothing needs room, too
            )
        )
        if used.day == day:
            used.drawn_usd = drawn
            if not self._has_room(name, budget):
                pause = _EMPTY_SECONDS if drawn <= used.usd else _HELD_SECONDS
                used.ask_again_at = self._timer() + pause

    async def return_unused(self, *, everything: bool = False) -> None:
        """Let others have half of the dollars that were drawn and are not needed; or all, at the
        end. To be called now and then: so nothing is left lying where nobody asks for it."""
        if everything and self._trips:  # those that bring dollars, too
            await asyncio.wait(set(self._trips.values()), timeout=PATIENCE_SECONDS)
        for name, used in list(self._used.items()):
            if not used.drawn_usd or used.day != self._day() or ("dollars", name) in self._trips:
                continue
            spare = used.drawn_usd - used.bound_usd
            kept = used.bound_usd if everything else used.bound_usd + max(spare, 0.0) / 2
            # What runs may come to more than was drawn; to keep that would be to draw it.
            kept = max(used.usd, min(kept, used.drawn_usd))
            is_worth_it = abs(kept - used.drawn_usd) > (0 if everything else _DUST_USD)
            if is_worth_it and self._may_ask("dollars", name):
                used.drawn_usd = kept  # before it is said: what runs meanwhile takes no more
                await self._join("dollars", name, partial(self._return, name))

    async def _return(self, name: str) -> None:
        assert self._shared_limits is not None
        used = self._of(name)
        await self._ask(partial(self._shared_limits.give_back, used.day, name, used.drawn_usd))

    def close(self) -> None:
        """Ask the shared limits nothing more."""
        self._alone_until = float("inf")
        self._threads.shutdown(wait=False, cancel_futures=True)

    def record_cost(self, record: CallRecord) -> None:
        """Count what a finished request cost in the cloud."""
        if record.cost_usd and record.target is Target.CLOUD:
            self._spend(record.client_key_hash, record.created_at, record.cost_usd)

    def crossed_budget_share(self, usd_per_day: float) -> float | None:
        """Which share of everybody's dollars, 0.8 or 1, is spent now; each is told once a day."""
        day, spent = int(self.day_start()), self.spent_today()
        reached = [share for share in _TOLD_SHARES if spent and spent >= share * usd_per_day]
        new = [share for share in reached if self._told.get(share) != day]
        self._told.update(dict.fromkeys(reached, day))
        return max(new, default=None)

    def _refusal(self, name: str, usd_per_day: float) -> BudgetSpent | BudgetReserved:
        who = "This proxy" if name == _EVERYBODY else "This API key"
        if self._today_of(name) < usd_per_day:
            return BudgetReserved(
                f"{who} may need all that is left of its {usd_per_day:g} USD for the cloud today "
                "for the requests that run; please try again.",
                seconds=_LOOK_SECONDS,
            )
        return BudgetSpent(
            f"{who} has spent its {usd_per_day:g} USD for the cloud today; "
            "the next day begins at midnight UTC.",
            seconds=self.day_start() + DAY_SECONDS - self._clock(),
        )

    # ── What the counting rests on ────────────────────────────────────────────────────────────

    def _may_ask(self, what: str, name: str) -> bool:
        """Whether others count, too, and can be asked."""
        return (
            self._shared_limits is not None
            and self._timer() >= self._alone_until
            and (what, name) not in self._late
        )

    async def _join(
        self, what: str, name: str, go: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        """Wait for a trip to the shared limits: the one that is on its way, or a new one. Not for
        long, and once it is late not at all: until it ends, this is counted here alone."""

        def end(trip: asyncio.Task[None]) -> None:
            del self._trips[what, name]
            self._late.discard((what, name))
            if trip.cancelled():
                return
            error = trip.exception()
            if error is None:
                self._count_with_others()
            elif not isinstance(error, _NotAsked):
                self._count_alone(str(error))

        trip = self._trips.get((what, name))
        if trip is None:
            trip = self._trips[what, name] = asyncio.create_task(go())
            trip.add_done_callback(end)
        _, late = await asyncio.wait({trip}, timeout=PATIENCE_SECONDS)
        if late and (what, name) not in self._late:
            self._late.add((what, name))
            self._count_alone(f"the database has not answered in {PATIENCE_SECONDS:g} s")

    async def _ask(self, question: Callable[[], _Answer]) -> _Answer:
        """Query the shared limits. Skip the query if no caller waits any more."""

        def ask() -> _Answer:
            if self._timer() < self._alone_until:
                raise _NotAsked
            return question()

        return await asyncio.get_running_loop().run_in_executor(self._threads, ask)

    def _count_alone(self, why: str) -> None:
        self._alone_until = max(self._alone_until, self._timer() + _ALONE_SECONDS)
        if not self._is_told_alone:
            self._is_told_alone = True
            logger.warning("limits are counted by this process alone for now: %s", why)

    def _count_with_others(self) -> None:
        if self._is_told_alone and not self._late:
            self._is_told_alone = False
            logger.info("limits are counted with other processes again")

    def _spend(self, name: str | None, at: float, usd: float) -> None:
        for one in (_EVERYBODY,) if name is None else (_EVERYBODY, name):
            if (used := self._of_day(one, at)) is not None:
                used.usd += usd

    def _today_of(self, name: str) -> float:
        used = self._of_today(name)
        return used.usd + used.others_usd

    def _of_today(self, name: str) -> _Used:
        return self._of_day(name, self._clock()) or self._of(name)

    def _of_day(self, name: str, at: float) -> _Used | None:
        """What a key has used on the day of a time; None when a later day has begun for it."""
        used, day = self._of(name), int(at // DAY_SECONDS)
        if day > used.day or day == self._day() < used.day:  # the clock was ahead
            used.day, used.usd, used.others_usd = day, 0.0, 0.0
            used.drawn_usd, used.ask_again_at = 0.0, _NEVER
        return used if day == used.day else None

    def _day(self) -> int:
        return int(self._clock() // DAY_SECONDS)

    def _of(self, name: str) -> _Used:
        return self._used.setdefault(name, _Used())


def _limits(client: Principal | None, usd_per_day: float | None) -> Iterator[tuple[str, float]]:
    """Whose dollars a request takes, and how many they may spend in a day."""
    if usd_per_day is not None:
        yield _EVERYBODY, usd_per_day
    if client is not None and client.cloud_usd_per_day is not None:
        yield client.key_hash, client.cloud_usd_per_day


def _rate_limited(per_minute: int, seconds: float) -> RateLimited:
    return RateLimited(
        f"Rate limit reached: this API key may make {per_minute} requests a minute.",
        seconds=seconds,
    )
