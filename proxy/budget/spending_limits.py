"""Daily budgets: dollars per day (UTC) for the cloud, of an API key and of all keys together.

    reservation = await spending.reserve(principal, 0.002, usd_per_day=5)   # or BudgetExhausted
    spending.record_cost(record)
    spending.release(reservation)

A cloud call is billed at its end, so its maximum cost is reserved at its beginning. A new request
may start while spent and reserved dollars are below the limit. So each process exceeds its part of
a budget by one request at most.

Processes on one database share a budget. Each leases a part of it, spends from that alone, and
leases more when it is used up. Without the database a process counts its own spending, and what it
last read of the spending of others.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final, NamedTuple

from proxy.auth import Principal
from proxy.budget.shared_queries import SharedQueries
from proxy.errors import BudgetReserved, BudgetSpent
from proxy.record import DAY_SECONDS, CallRecord

WAIT_SECONDS: Final = 30.0  # the longest that a request waits for reserved dollars
MAX_RESERVATION_WAITERS: Final = 100
_POLL_SECONDS: Final = 1.0  # other processes return dollars, and days begin, without a signal
_SPENT_RETRY_SECONDS: Final = 1.0  # until the next query for a lease, when all is spent
_RESERVED_RETRY_SECONDS: Final = 0.1  # when all is spent or reserved
_LONG_AGO: Final = float("-inf")
_MIN_USD: Final = 1e-6  # a smaller part of a lease is not worth a query
_GLOBAL: Final = ""  # the account of all keys together: no key has this hash
_REMEMBERED_DAYS: Final = 31
_WARNING_SHARES: Final = (0.8, 1.0)


class Reservation(NamedTuple):
    """Dollars that are reserved for a request, and the accounts that they are reserved in."""

    names: tuple[str, ...] = ()
    usd: float = 0.0


class _Account:
    """The dollars of one key, or of all keys together, on one day."""

    __slots__ = (
        "_past_usd", "day", "leased_usd", "others_usd", "own_usd", "reservations", "reserved_usd",
        "retry_at",
    )  # fmt: skip

    def __init__(self) -> None:
        self.day = 0  # counted from 1970, UTC
        self.own_usd = 0.0  # spent by this process
        self.others_usd = 0.0  # spent by all other processes
        self.leased_usd = 0.0  # the limit of `own_usd` by the lease
        self.retry_at = _LONG_AGO  # when a larger lease may be requested
        self.reservations = 0  # of running requests, also of those from the day before
        self.reserved_usd = 0.0
        self._past_usd: dict[int, tuple[float, float]] = {}  # own and others', by day

    def begin_day(self, day: int) -> None:
        """Reset everything but the reservations.

        A clock that was ahead comes back to a day that has begun before: its dollars are kept.
        """
        self._remember(self.day, self.own_usd, self.others_usd)
        self.day = day
        self.own_usd, self.others_usd = self._past_usd.pop(day, (0.0, 0.0))
        self.leased_usd, self.retry_at = 0.0, _LONG_AGO

    def add_to_past(self, day: int, usd: float) -> None:
        """Count dollars of this process on another day, for the clock may come back to it."""
        own_usd, others_usd = self._past_usd.get(day, (0.0, 0.0))
        self._remember(day, own_usd + usd, others_usd)

    def _remember(self, day: int, own_usd: float, others_usd: float) -> None:
        self._past_usd[day] = own_usd, others_usd
        while len(self._past_usd) > _REMEMBERED_DAYS:
            del self._past_usd[next(iter(self._past_usd))]  # the one that was left first

    @property
    def spent_usd(self) -> float:
        """Spent by all processes."""
        return self.own_usd + self.others_usd

    @property
    def committed_usd(self) -> float:
        """Spent by this process, or reserved."""
        return self.own_usd + self.reserved_usd


class SpendingLimits:
    """The daily budgets, as one process counts them.

    `principal` is the caller, None without API keys. `usd_per_day` is the budget of all keys
    together; None is no limit.

    Args:
        clock: UNIX seconds.
        timer: monotonic seconds.
    """

    def __init__(
        self,
        queries: SharedQueries,
        *,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queries = queries
        self._clock = clock
        self._timer = timer
        self._accounts: dict[str, _Account] = {}
        self._warned_on: dict[float, int] = {}  # by share of the budget, the last day
        self._released = asyncio.Event()
        self._waiting = 0  # requests that wait for reserved dollars

    def day_start(self) -> float:
        """The start of the current day (UTC), in UNIX seconds."""
        return self._clock() // DAY_SECONDS * DAY_SECONDS

    def spent_today(self, key_hash: str = _GLOBAL) -> float:
        """The cloud cost in USD since midnight UTC, of all processes.

        Args:
            key_hash: of one API key; by default of all callers.
        """
        account = self._accounts.get(key_hash)  # a question opens no account
        return 0.0 if account is None else self._today(key_hash).spent_usd

    def record_cost(self, record: CallRecord) -> None:
        """Count the cloud cost of a finished request."""
        usd = record.budget_usd
        if not usd:
            return
        key = record.client_key_hash
        for name in (_GLOBAL,) if key is None else (_GLOBAL, key):
            if (account := self._on_day_of(record.created_at, name)) is not None:
                account.own_usd += usd
            else:
                day = int(record.created_at // DAY_SECONDS)
                self._account(name).add_to_past(day, usd)

    def update_others_spending(
        self, spent_usd: Mapping[str | None, float], *, since: float
    ) -> None:
        """Set what all other processes have spent, by the hash of the key.

        It never decreases within a day: a database that lost rows returns no dollars.

        Args:
            since: the start of the day that the amounts belong to.
        """
        totals = {_GLOBAL: sum(spent_usd.values())}
        totals.update((name, usd) for name, usd in spent_usd.items() if name is not None)
        for name, usd in totals.items():
            if (account := self._on_day_of(since, name)) is not None:
                account.others_usd = max(account.others_usd, usd)

    def crossed_budget_share(self, usd_per_day: float) -> float | None:
        """The share of the global budget, 0.8 or 1, that is newly spent. Each once a day."""
        day, spent = int(self.day_start()), self.spent_today()
        reached = [share for share in _WARNING_SHARES if spent and spent >= share * usd_per_day]
        new = [share for share in reached if self._warned_on.get(share) != day]
        self._warned_on.update(dict.fromkeys(reached, day))
        return max(new, default=None)

    def has_budget(self, principal: Principal | None, *, usd_per_day: float | None = None) -> bool:
        """Whether every budget of the caller has dollars left, as far as this process knows."""
        return self._spent_limit(principal, usd_per_day) is None

    def check_budget(
        self, principal: Principal | None, *, usd_per_day: float | None = None
    ) -> None:
        """Raise BudgetSpent if `has_budget` is false."""
        if (spent := self._spent_limit(principal, usd_per_day)) is not None:
            raise self._refusal(*spent, principal)

    def _spent_limit(
        self, principal: Principal | None, usd_per_day: float | None
    ) -> tuple[str, float] | None:
        limits = _limits(principal, usd_per_day)
        return next(
            ((name, usd) for name, usd in limits if self._today(name).spent_usd >= usd), None
        )

    async def reserve(
        self,
        principal: Principal | None,
        usd: float,
        *,
        usd_per_day: float | None = None,
        may_wait: bool = False,
    ) -> Reservation:
        """Reserve dollars for a request that is about to go to the cloud.

        Args:
            usd: its maximum cost.
            may_wait: whether to wait for running requests that hold the remaining dollars, up to
                WAIT_SECONDS and beside at most MAX_RESERVATION_WAITERS others.

        Raises:
            BudgetSpent: a budget is spent.
            BudgetReserved: the rest of a budget is reserved for other requests.
        """
        limits = tuple(_limits(principal, usd_per_day))
        started = None
        while lacking := next((limit for limit in limits if not self._has_room(*limit)), None):
            name, budget = lacking
            account = self._account(name)
            now = self._timer()
            if self._queries.is_available("dollars", name) and now >= account.retry_at:
                await self._queries.join("dollars", name, partial(self._draw, name, budget, usd))
                continue
            started = now if started is None else started
            if not (may_wait and account.reserved_usd and now < started + WAIT_SECONDS):
                raise self._refusal(name, budget, principal)
            if self._waiting >= MAX_RESERVATION_WAITERS:
                raise self._refusal(name, budget, principal)
            await self._wait_for_release()
        for name, _ in limits:
            account = self._account(name)
            account.reservations += 1
            account.reserved_usd += usd
        return Reservation(tuple(name for name, _ in limits), usd)

    async def _wait_for_release(self) -> None:
        self._waiting += 1
        try:
            # Not wait_for: before Python 3.12 it may lose the cancellation of a client that left.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS):
                    await self._released.wait()
        finally:
            self._waiting -= 1

    def release(self, reservation: Reservation) -> None:
        """Release the dollars of a request that has ended. Record its cost before."""
        for name in reservation.names:
            account = self._account(name)
            account.reservations -= 1
            # Reset at zero: rounding errors must not add up.
            account.reserved_usd = (
                account.reserved_usd - reservation.usd if account.reservations else 0.0
            )
            account.retry_at = _LONG_AGO
        if reservation.names:
            self._wake_waiters()

    def _wake_waiters(self) -> None:
        self._released.set()
        self._released = asyncio.Event()  # for later ones

    def keep(self, reservation: Reservation, usd: float) -> Reservation:
        """Change the dollars of a reservation. They may exceed the leased ones."""
        for name in reservation.names:
            account = self._account(name)
            account.reserved_usd += usd - reservation.usd
            account.retry_at = _LONG_AGO
        if usd < reservation.usd:
            self._wake_waiters()
        return reservation._replace(usd=usd)

    async def return_unused(self, *, everything: bool = False) -> None:
        """Return half of the unused part of each lease to the other processes.

        Call it periodically, so that no dollars stay with an idle process.

        Args:
            everything: return all of it, at shutdown. Waits for running queries.
        """
        if everything:
            await self._queries.wait()
        for name, account in list(self._accounts.items()):
            if not account.leased_usd or account.day != self._day():
                continue
            if self._queries.is_running("dollars", name):
                continue
            committed, leased = account.committed_usd, account.leased_usd
            needed = committed if everything else committed + max(leased - committed, 0.0) / 2
            # Reservations may exceed the lease. Only spent dollars may enlarge it here.
            needed = max(account.own_usd, min(needed, leased))
            is_worth_it = abs(needed - leased) > (0 if everything else _MIN_USD)
            if is_worth_it and self._queries.is_available("dollars", name):
                account.leased_usd = needed  # before the query: a request may start meanwhile
                await self._queries.join("dollars", name, partial(self._return, name))

    async def _draw(self, name: str, budget: float, usd: float) -> None:
        """Request a lease that covers the running requests and one more of this cost."""
        account = self._today(name)
        day = account.day
        # Read the account now: the query runs in another thread.
        own, others = account.own_usd, account.others_usd
        need = account.reserved_usd + max(usd, _MIN_USD)  # a free request needs room, too
        leased = await self._queries.run(
            lambda shared: shared.draw_dollars(
                day, name, budget=budget, own=own, others=others, need=need
            )
        )
        if account.day == day:
            account.leased_usd = leased
            if not self._has_room(name, budget):
                is_spent = leased <= account.own_usd
                pause = _SPENT_RETRY_SECONDS if is_spent else _RESERVED_RETRY_SECONDS
                account.retry_at = self._timer() + pause

    async def _return(self, name: str) -> None:
        account = self._account(name)
        day, leased = account.day, account.leased_usd
        await self._queries.run(lambda shared: shared.give_back(day, name, leased))

    def _has_room(self, name: str, budget: float) -> bool:
        account = self._today(name)
        room = budget - account.others_usd
        if self._queries.is_available("dollars", name):
            room = min(room, account.leased_usd)
        return account.committed_usd < room

    def _refusal(
        self, name: str, usd_per_day: float, principal: Principal | None
    ) -> BudgetSpent | BudgetReserved:
        owner = "This proxy"
        if name != _GLOBAL:
            key_name = None if principal is None else principal.name
            owner = "This API key" if key_name is None else f"The API key '{key_name}'"
        seconds_left = self.day_start() + DAY_SECONDS - self._clock()
        if not usd_per_day:
            return BudgetSpent(f"{owner} may not use the cloud.", seconds=seconds_left)
        if self._today(name).spent_usd < usd_per_day:
            return BudgetReserved(
                f"{owner} has reserved the rest of its {usd_per_day:g} USD for the cloud today "
                "for running requests. Retry. Set max_tokens so that requests reserve less.",
                seconds=_POLL_SECONDS,
            )
        return BudgetSpent(
            f"{owner} has spent its {usd_per_day:g} USD for the cloud today. "
            "The next day begins at midnight UTC.",
            seconds=seconds_left,
        )

    def _today(self, name: str) -> _Account:
        return self._on_day_of(self._clock(), name) or self._account(name)

    def _on_day_of(self, seconds: float, name: str) -> _Account | None:
        """An account on the day of a time; None if a later day has begun in it."""
        account, day = self._account(name), int(seconds // DAY_SECONDS)
        if day > account.day or day == self._day() < account.day:  # the clock was ahead
            account.begin_day(day)
        return account if day == account.day else None

    def _day(self) -> int:
        return int(self._clock() // DAY_SECONDS)

    def _account(self, name: str) -> _Account:
        account = self._accounts.get(name)
        if account is None:
            account = self._accounts[name] = _Account()
        return account


def _limits(principal: Principal | None, usd_per_day: float | None) -> Iterator[tuple[str, float]]:
    """The accounts that a request draws from, with their budgets in USD per day."""
    if usd_per_day is not None:
        yield _GLOBAL, usd_per_day
    if principal is not None and principal.cloud_usd_per_day is not None:
        yield principal.key_hash, principal.cloud_usd_per_day
