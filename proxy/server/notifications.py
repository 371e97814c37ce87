"""Messages to a webhook when a tier goes down or a budget is used up (`notifications`).

`Notifier.check` runs every few seconds and queues messages; `Notifier.deliver` sends them. Neither
is on a request's way. Of all processes that share a database one sends a message (`Notices`).
"""

import asyncio
import datetime as dt
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from proxy.auth import Principal
from proxy.budget import SpendingLimits
from proxy.config import Config, NotificationEvent, Secret
from proxy.record import Target
from proxy.server.webhook import Sent, send
from proxy.storage import Notices
from proxy.upstream import Upstream

logger = logging.getLogger(__name__)

DOWN_SECONDS: Final = 60.0  # of an outage until it is notified of
OUTAGE_CLAIM_SECONDS: Final = 60.0  # between two claims of one outage, which keep it known
FIRST_RETRY_SECONDS: Final = 1.0
MAX_RETRY_SECONDS: Final = 60.0
GIVE_UP_SECONDS: Final = 3600.0  # the network of an outage may be the webhook's, too
MAX_QUEUED: Final = 64
_SHARES: Final[tuple[tuple[NotificationEvent, float], ...]] = (
    ("budget_spent", 1.0),
    ("budget_80", 0.8),
)

Send = Callable[[Secret, Mapping[str, Any]], Awaitable[Sent]]


def compose(event: str, text: str, **facts: Any) -> dict[str, Any]:
    """A message. `text` and `content` are what Slack, Mattermost and Discord show."""
    host = socket.gethostname()
    text = f"hybrid-llm-router on {host}: {text}"
    return {
        "event": event,
        "text": text,
        "content": text,
        "allowed_mentions": {"parse": []},  # Discord's: the text notifies nobody by name
        "host": host,
        "at": time.time(),
        **facts,
    }


async def send_test_message(url: Secret) -> str | None:
    """Send a message that says that it is a test. Returns the problem; None if it was accepted."""
    sent = await send(url, compose("test", "this is a test of the notifications."))
    return sent.problem


class _Outage(NamedTuple):
    """An outage that has been claimed, by this process or another."""

    since: float
    claimed_at: float


class Notifier:
    """Watches the tiers and the budgets of the configuration in use.

    Args:
        tier: the current upstream of a tier.
        send: sends a message once.
        down_seconds: of an outage until it is notified of.
        first_retry: seconds before the first retry, then exponential backoff.
        clock: UNIX seconds.
    """

    def __init__(
        self,
        notices: Notices,
        *,
        config: Callable[[], Config],
        callers: Callable[[], Sequence[Principal]],
        tier: Callable[[Target], Upstream],
        spending: SpendingLimits,
        send: Send = send,
        down_seconds: float = DOWN_SECONDS,
        first_retry: float = FIRST_RETRY_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._notices = notices
        self._config = config
        self._callers = callers
        self._tier = tier
        self._spending = spending
        self._send = send
        self._down_seconds = down_seconds
        self._first_retry = first_retry
        self._clock = clock
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(MAX_QUEUED)
        self._outages: dict[Target, _Outage] = {}
        self._seen_up: set[Target] = set()
        self._reported: dict[str, float] = {}  # the day on which a message was claimed, by name

    async def check(self) -> None:
        """Queue the messages that are due. Without a webhook nothing is."""
        if not self._config().notifications.webhook_url:
            return
        for target in Target:
            await self._check_tier(target)
        await self._check_budgets()

    async def _check_tier(self, target: Target) -> None:
        tier, now = self._tier(target), self._clock()
        outage = self._outages.get(target)
        if tier.up is False and now - tier.since >= self._down_seconds:
            if outage is not None and now - outage.claimed_at < OUTAGE_CLAIM_SECONDS:
                return
            self._outages[target] = _Outage(tier.since, now)
            if await asyncio.to_thread(self._notices.begin, f"tier:{target}"):
                problem = tier.problem
                why = f": {problem}" if problem else ""
                self._queue_message(
                    "tier_down",
                    f"the {target} tier is down since {_time(tier.since)}{why}.",
                    tier=target,
                    since=tier.since,
                    problem=problem,
                )
        elif tier.up and (outage is not None or target not in self._seen_up):
            # Also at the start: the restart may have ended the outage.
            self._outages.pop(target, None)
            self._seen_up.add(target)
            if await asyncio.to_thread(self._notices.end, f"tier:{target}"):
                after = f" after {_duration(now - outage.since)}" if outage is not None else ""
                self._queue_message(
                    "tier_up", f"the {target} tier is up again{after}.", tier=target, since=now
                )

    async def _check_budgets(self) -> None:
        since = self._spending.day_start()
        for name, owner, spent, budget, facts in self._budgets():
            reached = [event for event, share in _SHARES if spent and spent >= share * budget]
            for event in reached:
                is_first = await self._claim_once(f"{event}:{name}", since)
                if is_first and event == reached[0]:  # spent at once: one message
                    what = (
                        "is spent" if event == "budget_spent" else f"is {spent / budget:.0%} spent"
                    )
                    self._queue_message(
                        event,
                        f"{owner} {what} ({spent:.2f} of {budget:g} USD). It is renewed at "
                        "midnight UTC.",
                        usd=spent,
                        usd_per_day=budget,
                        **facts,
                    )

    async def _claim_once(self, name: str, since: float) -> bool:
        if self._reported.get(name) == since:
            return False
        self._reported[name] = since
        return await asyncio.to_thread(self._notices.once, name, since)

    def _budgets(self) -> Iterator[tuple[str, str, float, float, dict[str, Any]]]:
        """The budgets above zero: a name, the words for it, what is spent, the limit, and facts."""
        if budget := self._config().budget.cloud_usd_per_day:
            yield "", "the daily cloud budget", self._spending.spent_today(), budget, {}
        for caller in self._callers():
            if budget := caller.cloud_usd_per_day:
                digest, name = caller.key_hash, caller.shown_name
                owner = f"the daily cloud budget of the API key {name}"
                facts = {"key_hash": digest, "key_name": name}
                yield digest, owner, self._spending.spent_today(digest), budget, facts

    def _queue_message(self, event: NotificationEvent, text: str, **facts: Any) -> None:
        if event not in self._config().notifications.events:
            return
        logger.info("notification: %s", text)
        if self._queue.full():
            self._queue.get_nowait()
            logger.warning("notifications: the oldest of %d messages is dropped", MAX_QUEUED)
        self._queue.put_nowait(compose(event, text, **facts))

    async def deliver(self) -> None:
        """Send the queued messages, in order, for ever."""
        while True:
            message = await self._queue.get()
            try:
                await self._send_until_accepted(message)
            except Exception:  # a bug must not stop later messages
                logger.exception("notifications: a message was not sent")

    async def _send_until_accepted(self, message: dict[str, Any]) -> None:
        seconds = self._first_retry
        begun = self._clock()
        while url := self._config().notifications.webhook_url:
            sent = await self._send(url, message)
            if sent.problem is None:
                return
            if not sent.is_temporary or self._clock() - begun >= GIVE_UP_SECONDS:
                logger.error("notifications: not sent: the webhook %s", sent.problem)
                return
            if seconds == self._first_retry:
                logger.warning("notifications: the webhook %s; retrying", sent.problem)
            await asyncio.sleep(seconds)
            seconds = min(2 * seconds, MAX_RETRY_SECONDS)


def _time(seconds: float) -> str:
    return f"{dt.datetime.fromtimestamp(seconds, dt.UTC):%H:%M} UTC"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{max(minutes, 1)} min"
