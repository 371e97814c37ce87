"""The configuration file: YAML with `${VAR}` and `${VAR:-default}`, read into frozen typed values.

    hybrid-llm check-config configs/default.yaml

Errors have the form `FILE:LINE: key.path: problem`. Unknown keys are errors, because a misspelt key
that is silently ignored costs money. Variables come from the environment, then from a `.env` in the
working directory. This module does not know what the values do.
"""

import base64
import datetime as dt
import ipaddress
import math
import os
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, NamedTuple, cast, get_args
from urllib.parse import urlsplit

import msgspec
import yaml
from dotenv import dotenv_values
from msgspec import UNSET, Meta, UnsetType

from proxy.addresses import clean_base_url, has_credentials, is_base_url, is_this_machine
from proxy.patterns import PatternError, compile_regex, compile_words
from proxy.record import default_key_name, key_hash
from proxy.secret import DatabaseUrl
from proxy.secret import Secret as Secret
from router_model.bundled import bundled
from router_model.categories import CATEGORIES
from router_model.language import LANGUAGES

PRICING_FILE: Final = "pricing.yaml"

# The headers in which clients send a key of this proxy. They never reach an upstream.
LOGIN_HEADERS: Final = frozenset({"authorization", "x-api-key", "cookie"})

# Headers that no configuration may pass on, each with its reason.
_OF_A_CONNECTION: Final = "belongs to one connection or body and is never passed on"
_OF_THE_PROXY: Final = "belongs to this proxy and is never passed on"
_ACTS_ON_BROWSERS: Final = "acts on browsers or on a server in front and is never passed on"
_REFUSED_HEADERS: Final = (
    dict.fromkeys(
        "connection keep-alive te trailer transfer-encoding upgrade expect host http2-settings "
        "content-length content-encoding content-type accept-encoding date server via".split(),
        _OF_A_CONNECTION,
    )
    | dict.fromkeys(("x-request-id", "x-upstream-request-id"), _OF_THE_PROXY)
    | dict.fromkeys(
        ("openai-organization", "openai-project"),
        "names the account of the tier's key and is never passed on",
    )
)
_KEY_HEADERS: Final = LOGIN_HEADERS | {"api-key", "cookie2", "x-auth-token", "x-goog-api-key"}
# Of answers: what acts on a browser as if the proxy had said it, or on a server in front.
_BROWSER_HEADERS: Final = frozenset(
    "www-authenticate authentication-info set-cookie set-cookie2 location refresh link alt-svc "
    "clear-site-data content-location content-security-policy content-security-policy-report-only "
    "strict-transport-security public-key-pins referrer-policy permissions-policy feature-policy "
    "document-policy origin-agent-cluster service-worker-allowed sourcemap x-sourcemap expect-ct "
    "nel report-to reporting-endpoints speculation-rules timing-allow-origin accept-ch critical-ch "
    "x-content-type-options x-frame-options x-xss-protection x-dns-prefetch-control "
    "x-permitted-cross-domain-policies x-sendfile x-lighttpd-send-file surrogate-control".split()
)
_BROWSER_PREFIXES: Final = ("access-control-", "cross-origin-", "sec-", "x-accel-")

# What a request may need, as `RoutingRequest.needs` names it.
NEEDS: Final = frozenset(
    "tools tool_choice parallel_tool_calls custom_tools namespace functions hosted_tools "
    "web_search vision image_url audio file state json_schema json_object reasoning_effort "
    "logprobs logit_bias n".split()
)
# Of a rule: a header and a metric show it.
_RULE_NAME: Final = re.compile(r"[!-~](?:[ -~]{0,58}[!-~])?")
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_CREDENTIAL_HEADERS: Final = frozenset(
    "authorization proxy-authorization x-api-key api-key cookie".split()
)

MAX_KEY_NAME_CHARS: Final = 60
KEY_NAME_RULE: Final = (
    f"must be 1 to {MAX_KEY_NAME_CHARS} printable characters, without spaces at the ends"
)

# A key that a server without authentication is given, because clients require one, is a word.
_PLACEHOLDER_KEY: Final = re.compile(r"[A-Za-z]{0,12}|-")


# What `with_sections` takes: sections, and the key of each.
_PREVIEWED: Final = {"routing": "rules", "verify": "band"}
_LIST_OF_RULES: Final = re.compile(r"(?P<flow>\s*\[)|(?:[ ]*(?:#[^\n]*)?\r?\n)*[ ]*-\s")


class ConfigError(Exception):
    """An invalid configuration, as one line: `FILE:LINE: key.path: problem`."""


Seconds = Annotated[float, Meta(gt=0)]
Dollars = Annotated[float, Meta(ge=0)]
Unit = Annotated[float, Meta(ge=0, le=1)]
Name = Annotated[str, Meta(min_length=1)]
OptionalTools = Literal["drop", "keep", "auto"]
HeaderName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]  # RFC 9110, 5.6.2


class ApiKeyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An API key of clients, with its limits. Days are in UTC."""

    key: Secret
    name: Name | None = None  # shown to people, and used in rules; it is no secret
    requests_per_minute: Annotated[int, Meta(gt=0)] | None = None
    cloud_usd_per_day: Dollars | None = None
    optional_tools: OptionalTools | None = None  # default: that of routing
    admin: bool | None = None  # default: true for a single key, else false


class ServerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The address of the proxy, its clients and its limits."""

    host: Name = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8080
    workers: Annotated[int, Meta(ge=1)] = 1
    api_keys: tuple[ApiKeyConfig, ...] = ()
    allow_anonymous: bool = False
    shared_objects: Literal["admin", "all"] = "admin"
    model_management: Literal["refuse", "admin"] = "refuse"
    cors_origins: tuple[Name, ...] = ()
    max_body_mb: Annotated[float, Meta(gt=0)] = 32
    request_timeout_seconds: Seconds = 600
    hold_seconds: Seconds = 10
    overload_seconds: Seconds | None = 1
    drain_seconds: Annotated[float, Meta(ge=0)] = 0
    shutdown_grace_seconds: Seconds = 25

    @property
    def max_body_bytes(self) -> int:
        return int(self.max_body_mb * 1024 * 1024)

    @property
    def is_private(self) -> bool:
        """Whether only this machine can reach the proxy."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False  # a host name, or empty: all addresses

    @property
    def is_open(self) -> bool:
        """Whether other machines can use the proxy without a key."""
        return not self.api_keys and not self.is_private


class TokenPrices(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """USD per million tokens. By default cached and cache-writing tokens cost as `input`."""

    input: Dollars | None = None
    cached_input: Dollars | None = None
    cache_write: Dollars | None = None
    audio_input: Dollars | None = None
    output: Dollars | None = None
    audio_output: Dollars | None = None


class LongPrices(TokenPrices, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The prices of all tokens of a request with more input tokens than `above`.

    The default of input, output and audio is the price of shorter requests.
    """

    above: Annotated[int, Meta(gt=0)]


class PriceConfig(TokenPrices, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The prices of a model. By default audio tokens cost as text."""

    input: Dollars = 0
    output: Dollars = 0
    long: LongPrices | None = None


class ModelPrices(PriceConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model in the price list: its prices by service tier, and the limits of one request.

    Attributes:
        tiers: prices by the name of other service tiers.
        context: the tokens of a prompt's text.
        max_output: the tokens of one answer.
        image_tokens: the input tokens that one image is billed as, at most.
        max_input: the input tokens that one request is billed as, at most; None is `context`.
        web_search, file_search, code_interpreter: see `ToolFees`.
    """

    flex: PriceConfig | None = None
    priority: PriceConfig | None = None
    tiers: dict[Name, PriceConfig] = msgspec.field(default_factory=dict)
    context: Annotated[int, Meta(gt=0)] | None = None
    max_output: Annotated[int, Meta(gt=0)] | None = None
    image_tokens: Annotated[int, Meta(gt=0)] | None = None
    max_input: Annotated[int, Meta(gt=0)] | None = None
    web_search: Dollars = 0
    file_search: Dollars = 0
    code_interpreter: Dollars = 0

    @property
    def special(self) -> dict[str, PriceConfig]:
        """The prices of service tiers other than the standard one, by their names."""
        named = {"flex": self.flex, "priority": self.priority}
        return {name: price for name, price in named.items() if price is not None} | self.tiers


class ToolFees(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """USD per call of a tool that the provider runs, and per container of the code interpreter."""

    web_search: Dollars = 0
    file_search: Dollars = 0
    code_interpreter: Dollars = 0


class _PriceList(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The price list: `ModelPrices` by model name, and the fees of models without their own."""

    as_of: dt.date | None = None
    tools: ToolFees = ToolFees()
    models: dict[Name, Any]


class TimeoutsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Seconds to connect, of a silence before a stream's first output, and of one after it."""

    connect: Seconds = 5
    first_token: Seconds = 60
    idle: Seconds = 60


class BasicAuth(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A user name and a password (RFC 7617), as a reverse proxy before a server may want them."""

    username: Name
    password: Secret

    def __post_init__(self) -> None:
        if ":" in self.username:
            raise ValueError("the user name must not contain a colon")


class ModelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is different for some models of a tier. The first entry that has a model counts.

    Attributes:
        names: patterns in which `*` is any text and `[1-9]` one of these characters.
        reasoning: whether the models think before they answer; the hidden tokens are billed.
        first_token, idle: as in `timeouts`; None is the value there.
    """

    names: Annotated[tuple[Name, ...], Meta(min_length=1)]
    reasoning: bool = False
    first_token: Seconds | None = None
    idle: Seconds | None = None

    def has(self, model: str) -> bool:
        """Whether a pattern matches a name, with or without `openai/` or `ft:` in front of it.

        Case is ignored.
        """
        model = model.lower()
        own_name = model.rpartition("/")[2].removeprefix("ft:")
        return any(
            fnmatchcase(name, pattern.lower())
            for pattern in self.names
            for name in (model, own_name)
        )


class ModelSettings(NamedTuple):
    """What holds for one model of a tier. `reasoning`: as in `ModelConfig`."""

    timeouts: TimeoutsConfig
    reasoning: bool = False


# OpenAI's reasoning models, which send nothing while they think. Its clients wait 600 seconds.
# Sources:
# https://developers.openai.com/api/docs/guides/reasoning; openai-python, `_constants.py`.
REASONING_MODELS: Final = (
    ModelConfig(names=("gpt-5-chat*",)),  # does not think
    ModelConfig(names=("o[1-9]*", "gpt-[5-9]*"), reasoning=True, first_token=600, idle=300),
)


Capability = Literal["tools", "vision", "json_schema", "logprobs"]


class UpstreamConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One tier: an OpenAI-compatible endpoint, or several replicas of it, and its model."""

    base_url: Name | Annotated[tuple[Name, ...], Meta(min_length=1)]
    model: Name
    api_key: Secret | None = None
    basic_auth: BasicAuth | None = None
    headers: dict[str, Secret] = msgspec.field(default_factory=dict)
    context_tokens: Literal["auto"] | Annotated[int, Meta(gt=0)] = "auto"
    capabilities: Literal["auto"] | tuple[Capability, ...] = "auto"
    price: Literal["auto"] | PriceConfig = "auto"
    max_concurrency: Annotated[int, Meta(gt=0)] | None = None
    timeouts: TimeoutsConfig = TimeoutsConfig()
    models: tuple[ModelConfig, ...] = REASONING_MODELS
    max_response_mb: Annotated[float, Meta(gt=0)] = 64
    forward_headers: tuple[HeaderName, ...] = ()
    return_headers: tuple[HeaderName, ...] = ()

    @property
    def max_response_bytes(self) -> int:
        return int(self.max_response_mb * 1024 * 1024)

    @property
    def written_urls(self) -> tuple[str, ...]:
        """The base URLs as they are in the file."""
        return (self.base_url,) if isinstance(self.base_url, str) else self.base_url

    @property
    def base_urls(self) -> tuple[str, ...]:
        """The base URLs without their usual mistakes (`clean_base_url`)."""
        return tuple(map(clean_base_url, self.written_urls))

    @property
    def sent_headers(self) -> list[tuple[str, str]]:
        """The headers of every request: the credentials, and `headers`. Names are in lower case."""
        sent = {name.lower(): value.reveal() for name, value in self.headers.items() if value}
        if self.basic_auth is not None:
            pair = f"{self.basic_auth.username}:{self.basic_auth.password.reveal()}"
            sent["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        elif self.api_key:
            sent.setdefault("authorization", f"Bearer {self.api_key.reveal()}")
        return list(sent.items())

    @property
    def has_credentials(self) -> bool:
        """Whether requests have a header that may be a key or a password."""
        return bool(self.sent_headers)

    def settings_of(self, model: str) -> ModelSettings:
        """What holds for a model: the first entry of `models` that has it, over `timeouts`."""
        entry = next((entry for entry in self.models if entry.has(model)), None)
        if entry is None:
            return ModelSettings(self.timeouts)
        usual = self.timeouts
        timeouts = msgspec.structs.replace(
            usual,
            first_token=usual.first_token if entry.first_token is None else entry.first_token,
            idle=usual.idle if entry.idle is None else entry.idle,
        )
        return ModelSettings(timeouts, entry.reasoning)


class UpstreamsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    local: UpstreamConfig
    cloud: UpstreamConfig


class ShadowRouterConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The shadow router: a second router model that scores a share of the requests."""

    path: Name
    share: Unit = 0.1


Names = Name | Annotated[tuple[Name, ...], Meta(min_length=1)]
# Names of fields, or fields with the values that they may have.
Fields = Names | Annotated[dict[Name, Names], Meta(min_length=1)]


class TokenRange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A range of token counts, both ends included."""

    min: Annotated[int, Meta(ge=0)] | None = None
    max: Annotated[int, Meta(ge=0)] | None = None


class RuleCondition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The conditions of a rule. All that are given must hold; of a list, any item."""

    category: Names | None = None
    language: Names | None = None
    words: Names | None = None
    regex: Names | None = None
    key: Names | None = None
    header: Fields | None = None
    metadata: Fields | None = None
    prompt_tokens: TokenRange | None = None
    needs: Names | None = None


class RuleThreshold(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The threshold of a rule, for the merit or the score (`routing.objective`)."""

    threshold: Unit


class RuleConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A rule of routing. The first whose conditions hold decides."""

    name: Name
    when: RuleCondition
    use: Literal["local", "cloud"] | RuleThreshold


class RoutingConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a request is routed."""

    model_path: Name = "data/models/router"
    threshold: Literal["auto"] | Unit = "auto"
    objective: Literal["gain_per_usd", "score"] = "gain_per_usd"
    rules: tuple[RuleConfig, ...] = ()
    routed_models: tuple[Name, ...] | None = None  # None: auto and the cloud model's name
    unknown_models: Literal["cloud", "reject"] = "cloud"
    out_of_domain: Literal["cloud", "score", "local"] = "cloud"
    housekeeping: Literal["local", "score"] = "local"
    optional_tools: OptionalTools = "auto"
    local_tool_choice: Literal["strict", "lenient"] = "strict"
    score_system: Literal["auto", "never", "always"] = "auto"
    sticky: Literal["off", "escalate_only", "session"] = "escalate_only"
    fallback: bool = True
    spill_when_busy: bool = True
    explore_rate: Unit = 0.0
    explore_width: Unit = 0.05
    shadow_router: ShadowRouterConfig | None = None
    candidate: ShadowRouterConfig | UnsetType | None = UNSET  # the old name of shadow_router

    @property
    def model_folder(self) -> Path:
        """The folder of the router model. The package contains the default one."""
        return bundled(Path(self.model_path))


class VerifyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whether local answers are checked before they are sent.

    `checks` are the hard checks alone; `auto` has the second look as well, once `calibrate` has
    fitted it. The second look is for merits in `band`, and for streams that it may `hold`. Its
    evidence is the answer of the local model `second` (the tier's own model answers again, at
    another temperature), `logprobs`, and a `self_check`. All of it has `max_wait_seconds`.
    """

    mode: Literal["auto", "checks", "off"] = "auto"
    band: Literal["auto"] | tuple[Unit, Unit] = "auto"
    streams: Literal["skip", "hold"] = "skip"
    second: Name | None = None
    logprobs: Literal["auto", "off"] = "auto"
    self_check: bool = False
    max_wait_seconds: Annotated[float, Meta(gt=0)] = 20.0

    def __post_init__(self) -> None:
        if self.band != "auto" and self.band[0] > self.band[1]:
            raise ValueError("the band begins after its end: use [low, high]")


class BudgetConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    cloud_usd_per_day: Dollars | None = None
    pacing: bool = True
    when_spent: Literal["local", "reject"] = "local"
    uncounted: Literal["refuse", "allow"] = "refuse"


class LearningConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Self-calibration. suggest: fit, test and record; apply: also use what is better."""

    auto: Literal["off", "suggest", "apply"] = "off"


class JudgeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The judge model, its sampling rates and its daily budgets (UTC).

    Without `base_url` the judge is a cloud model, called with the cloud's credentials unless it has
    some of its own. `shadow_rate` is the share of requests that the other tier answers as well
    (shadow requests).
    """

    enabled: bool = False
    model: Name = "gpt-4o-mini"
    base_url: Name | None = None
    api_key: Secret | None = None
    basic_auth: BasicAuth | None = None
    headers: dict[str, Secret] = msgspec.field(default_factory=dict)
    price: Literal["auto"] | PriceConfig = "auto"
    sample_rate: Unit = 0.02
    usd_per_day: Dollars = 1.0
    shadow_rate: Unit = 0.01
    shadow_usd_per_day: Dollars = 1.0

    @property
    def has_own_credentials(self) -> bool:
        """Whether the cloud's credentials are not for the judge: it has others, or a server."""
        own = (self.base_url, self.api_key, self.basic_auth)
        return bool(self.headers) or any(item is not None for item in own)


class StorageConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The database, what is stored of prompts and of requests, and the retention."""

    url: DatabaseUrl = DatabaseUrl("sqlite:///data/router.db")
    prompts: Literal["full", "hash", "none"] = "full"
    bodies: Literal["none", "failed", "all"] = "failed"
    retention_days: Annotated[float, Meta(gt=0)] | None = 30

    def __post_init__(self) -> None:
        if isinstance(self.url, str):  # of code without types: it must not be shown either
            msgspec.structs.force_setattr(self, "url", DatabaseUrl(self.url))


class ExperimentsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whether the experiments page can start jobs, and the folders of the pipeline."""

    enabled: bool = True
    data: Name | None = None
    work: Name = "data/work"
    results: Name = "data/results"


class LoggingConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Format and level of the log. Rows and metrics do not depend on them."""

    format: Literal["auto", "text", "json"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"
    requests: Literal["all", "failed", "none"] = "none"


NotificationEvent = Literal["tier_down", "tier_up", "budget_80", "budget_spent"]


class NotificationsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Messages about the proxy's state, to the webhook of a chat or of a pager."""

    webhook_url: Secret | None = None
    events: tuple[NotificationEvent, ...] = get_args(NotificationEvent)


_SECOND_LOOK_SLOTS: Final = 2


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    upstreams: UpstreamsConfig
    server: ServerConfig = ServerConfig()
    routing: RoutingConfig = RoutingConfig()
    verify: VerifyConfig = VerifyConfig()
    budget: BudgetConfig = BudgetConfig()
    learning: LearningConfig = LearningConfig()
    judge: JudgeConfig = JudgeConfig()
    storage: StorageConfig = StorageConfig()
    logging: LoggingConfig = LoggingConfig()
    notifications: NotificationsConfig = NotificationsConfig()
    experiments: ExperimentsConfig = ExperimentsConfig()
    pricing: Name | None = PRICING_FILE

    def secrets(self) -> Iterator[str]:
        """The values of all keys and passwords, without placeholders and that of the database."""
        return (value for value in _secrets_in(self) if not _PLACEHOLDER_KEY.fullmatch(value))

    def warnings(self) -> Iterator[str]:
        """Settings that have no effect, and old names of settings, as `key: problem`."""
        if self.routing.candidate is not UNSET:
            yield (
                "routing.candidate: renamed to routing.shadow_router; the old name works in this "
                "release only"
            )
        if self.judge.enabled and self.storage.prompts != "full":
            yield "judge.enabled: has no effect, because storage.prompts stores no text to judge"
        if self.storage.bodies == "all" and self.storage.prompts != "full":
            yield "storage.bodies: has no effect, because storage.prompts is not full"
        if self.learning.auto != "off":
            if not (self.judge.enabled and self.judge.shadow_rate):
                yield (
                    "learning.auto: has no effect, because no answers of both tiers are judged "
                    "(judge.enabled, judge.shadow_rate)"
                )
            if self.learning.auto == "apply" and self.routing.threshold != "auto":
                yield (
                    "learning.auto: only suggests, because routing.threshold overrides the "
                    "threshold of the router model"
                )
        if self.verify.second is not None and self.verify.mode != "off":
            slots = self.upstreams.local.max_concurrency
            if slots is not None and slots < _SECOND_LOOK_SLOTS:
                yield (
                    "verify.second: has no effect, because upstreams.local.max_concurrency leaves "
                    "no slot for a second model"
                )
            if not self.routing.fallback:
                yield "verify.second: has no effect without routing.fallback"
        yield from self._corrected_urls()
        yield from self._late_timeouts()
        yield from self._unencrypted_keys()
        webhook = self.notifications.webhook_url
        if webhook and _is_plain_http(webhook.reveal()):
            yield (
                "notifications.webhook_url: is called unencrypted on another machine; use an https "
                "URL"
            )
        keys = self.server.api_keys
        if keys and not any(len(keys) == 1 if key.admin is None else key.admin for key in keys):
            yield "server.api_keys: the dashboard needs a key with `admin: true`"
        for name in ("context_tokens", "capabilities"):
            if getattr(self.upstreams.cloud, name) != "auto":
                yield f"upstreams.cloud.{name}: has no effect; only the local tier is checked"

    def _late_timeouts(self) -> Iterator[str]:
        """Timeouts that only pass when the time of the request is over."""
        for name, tier in (("local", self.upstreams.local), ("cloud", self.upstreams.cloud)):
            places = {"timeouts": tier.timeouts} | {
                f"models[{index}]": entry
                for index, entry in enumerate(tier.models)
                if entry not in REASONING_MODELS  # a default, not the operator's choice
            }
            for place, given in places.items():
                if (given.first_token or 0) > self.server.request_timeout_seconds:
                    yield (
                        f"upstreams.{name}.{place}.first_token: has no effect, because "
                        "server.request_timeout_seconds is shorter"
                    )

    def servers(self) -> Iterator[tuple[str, UpstreamConfig | JudgeConfig, tuple[str, ...]]]:
        """The sections that have credentials, with their base URLs as they are in the file."""
        tiers, judge = self.upstreams, self.judge
        yield "upstreams.local", tiers.local, tiers.local.written_urls
        yield "upstreams.cloud", tiers.cloud, tiers.cloud.written_urls
        yield "judge", judge, () if judge.base_url is None else (judge.base_url,)

    def _corrected_urls(self) -> Iterator[str]:
        """The base URLs that are used otherwise than they are written."""
        for name, _, urls in self.servers():
            for url in urls:
                if (cleaned := clean_base_url(url)) != url.rstrip("/"):
                    yield f"{name}.base_url: {cleaned} is used"

    def _unencrypted_keys(self) -> Iterator[str]:
        """The API keys and passwords that cross the network as plain text."""
        for name, server, urls in self.servers():
            if not any(map(_is_plain_http, urls)):
                continue
            key = server.api_key
            credentials = {
                "api_key": key is not None and not _PLACEHOLDER_KEY.fullmatch(key.reveal()),
                "basic_auth": server.basic_auth is not None,
                "headers": any(header.lower() in _KEY_HEADERS for header in server.headers),
            }
            for field in (field for field, is_set in credentials.items() if is_set):
                yield f"{name}.{field}: is sent unencrypted to another machine; use an https URL"


def _secrets_in(value: object) -> Iterator[str]:
    """The secrets in a part of a configuration."""
    match value:
        case Secret() if value:
            yield value.reveal()
        case msgspec.Struct():
            for name in value.__struct_fields__:
                yield from _secrets_in(getattr(value, name))
        case dict():
            for item in value.values():
                yield from _secrets_in(item)
        case tuple() | list():
            for item in value:
                yield from _secrets_in(item)


def load_config(
    path: Path,
    *,
    environ: Mapping[str, str] | None = None,
    host: str | None = None,
    port: int | None = None,
    workers: int | None = None,
    text: str | None = None,
) -> Config:
    """Read and validate a configuration file.

    Args:
        path: the YAML file.
        text: validated in place of the content of the file.
        environ: variables to interpolate; by default the process environment over `.env`.
        host, port, workers: override the values under `server`.

    Raises:
        ConfigError: with file, line and key of the first problem.
    """
    if environ is None:
        environ = read_environment()
    document = _Document(path, _read(path) if text is None else text, environ)
    _expand_api_keys(document.value)
    _refuse_both_names(document)
    try:
        config = msgspec.convert(document.value, Config, dec_hook=_decode_secret)
    except msgspec.ValidationError as error:
        raise document.refuse(str(error)) from None
    if config.routing.candidate is not UNSET:
        config = msgspec.structs.replace(
            config,
            routing=msgspec.structs.replace(config.routing, shadow_router=config.routing.candidate),
        )
    options = {"host": host, "port": port, "workers": workers}
    overrides = {name: value for name, value in options.items() if value is not None}
    config = msgspec.structs.replace(
        config, server=msgspec.structs.replace(config.server, **overrides)
    )
    _check_meaning(config, document)
    return config


def with_sections(config: Config, text: str) -> tuple[Config, frozenset[str]]:
    """A configuration with other rules and another band of the second look, from YAML.

    The text has `routing.rules`, or `rules` alone, and `verify.band`. Variables are not replaced.
    Returns the sections that it has, too.

    Raises:
        ConfigError: with the first problem. The file is called `preview`.
    """
    is_block = False
    if found := _LIST_OF_RULES.match(text):
        is_block = found["flow"] is None
        text = f"rules:\n{text}" if is_block else f"rules: {text.lstrip()}"
    document = _Document(Path("preview"), text, {})
    sections: dict[str, Any] = dict(document.value)
    if "rules" in sections and "routing" not in sections:
        sections["routing"] = {"rules": sections.pop("rules")}
        document.move("rules", "routing.rules", lines=-is_block)
    for name, value in sections.items():
        known = _PREVIEWED.get(name)
        if known is None or not isinstance(value, dict) or set(value) != {known}:
            raise document.error(name, "a preview takes routing.rules and verify.band only")
    routing, verify = sections.get("routing", {}), sections.get("verify", {})
    try:
        new_routing = msgspec.convert(routing, RoutingConfig)
    except msgspec.ValidationError as error:
        raise document.refuse(str(error), at="routing") from None
    try:
        new_verify = msgspec.convert(verify, VerifyConfig)
    except msgspec.ValidationError as error:
        raise document.refuse(str(error), at="verify") from None
    if routing:
        routing = msgspec.structs.replace(config.routing, rules=new_routing.rules)
        config = msgspec.structs.replace(config, routing=routing)
    if verify:
        verify = msgspec.structs.replace(config.verify, band=new_verify.band)
        config = msgspec.structs.replace(config, verify=verify)
    _check_rules(config, document)
    return config, frozenset(sections)


def pricing_path(config: Config, path: Path) -> Path | None:
    """The price list of the configuration in `path`; None if it has none.

    The default is the bundled price list, if the folder of the configuration has none.
    """
    if config.pricing is None:
        return None
    own = path.parent / config.pricing
    if config.pricing == PRICING_FILE and not own.exists():
        return bundled(Path("configs", PRICING_FILE))
    return own


def load_prices(path: Path | None) -> Mapping[str, ModelPrices]:
    """Read and validate a price list.

    Raises:
        ConfigError: with file, line and key of the first problem. A missing
            file is an error only if the configuration names its own price list.
    """
    if path is None or (path.name == PRICING_FILE and not path.exists()):
        return {}
    return _parse_prices(path, _read(path))


# The list is long and seldom changes: a reload of the configuration mostly finds it as it was.
@lru_cache(maxsize=4)
def _parse_prices(path: Path, text: str) -> Mapping[str, ModelPrices]:
    document = _Document(path, text, {}, has_secrets=False)
    prices = {}
    at = ""
    try:
        listed = msgspec.convert(document.value, _PriceList)
        fees = msgspec.structs.asdict(listed.tools)
        for name, fields in listed.models.items():
            at = f"models.{name}"  # msgspec does not report it
            own = fees | fields if isinstance(fields, dict) else fields
            prices[name] = msgspec.convert(own, ModelPrices)
    except msgspec.ValidationError as error:
        raise document.refuse(str(error), at=at) from None
    return MappingProxyType(prices)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None


def read_environment() -> dict[str, str]:
    """The process environment over `.env`. Raises ConfigError if `.env` cannot be read."""
    return _read_dotenv() | dict(os.environ)


def _read_dotenv() -> dict[str, str]:
    try:
        return {key: value for key, value in dotenv_values(".env").items() if value is not None}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f".env: cannot be read: {error}") from None


def _expand_api_keys(document: dict[str, Any]) -> None:
    """Expand the short forms of `server.api_keys`: comma-separated text, and bare keys."""
    server = document.get("server")
    if not isinstance(server, dict):
        return
    keys = server.get("api_keys", [])
    if keys is None or isinstance(keys, str):  # an empty variable means none
        keys = [key.strip() for key in keys.split(",")] if keys and keys.strip() else []
    if isinstance(keys, list):
        server["api_keys"] = [key if isinstance(key, dict) else {"key": key} for key in keys]


def _refuse_both_names(document: "_Document") -> None:
    routing = document.value.get("routing")
    if isinstance(routing, dict) and {"candidate", "shadow_router"} <= routing.keys():
        raise document.error(
            "routing.candidate", "renamed to routing.shadow_router; set only the new name"
        )


def _decode_secret(kind: type, value: object) -> object:
    if not issubclass(kind, Secret) or not isinstance(value, str):
        # Numbers too: YAML has parsed them by then, and 0123 has lost its zero.
        advice = "" if isinstance(value, list | dict | None) else "; put it in quotes"
        raise ValueError(f"Expected text, got `{type(value).__name__}`{advice}")
    text = value.strip()  # a mounted secret often ends with a newline
    if kind is Secret and not text.isprintable():
        raise ValueError("Contains a character that is not allowed in HTTP headers")
    return kind(text)


def _header_problem(name: str, *, is_returned: bool) -> str | None:
    """Why a header may not be added to those that pass; None for one that may.

    Args:
        name: in lower case.
        is_returned: whether it goes to clients; otherwise to a tier.
    """
    if "*" in name:
        return "write each name in full; patterns are not supported"
    if name in _KEY_HEADERS:
        owner = "a" if is_returned else "a client's"
        return f"'{name}' may hold {owner} key and is never passed on"
    if reason := _REFUSED_HEADERS.get(name):
        return f"'{name}' {reason}"
    if is_returned and name in _BROWSER_HEADERS:
        return f"'{name}' {_ACTS_ON_BROWSERS}"
    if name.startswith("x-router-"):
        return f"{_shown_value(name)} {_OF_THE_PROXY}"
    if name.startswith("proxy-"):
        return f"{_shown_value(name)} {_OF_A_CONNECTION}"
    if is_returned and name.startswith(_BROWSER_PREFIXES):
        return f"{_shown_value(name)} {_ACTS_ON_BROWSERS}"
    return None


def _check_meaning(config: Config, document: "_Document") -> None:
    """Check the rules that the types cannot express."""
    tiers = config.upstreams
    for section, settings, urls in config.servers():
        for url in urls:
            if has_credentials(url):
                raise document.error(
                    f"{section}.base_url",
                    "credentials belong in api_key, basic_auth or headers, not in the URL",
                )
            if not is_base_url(url):
                shown = _shown_value(url.partition("?")[0])
                raise document.error(
                    f"{section}.base_url", f"{shown} is not a URL such as http://localhost:11434/v1"
                )
            if _is_own_address(url, config.server):
                raise document.error(
                    f"{section}.base_url",
                    f"{_shown_value(url)} is this proxy's own address. Variables such as "
                    "OPENAI_BASE_URL also name the proxy's upstreams: set the proxy's address only "
                    "for its clients",
                )
        _check_credentials(settings, section, document)
    for tier in ("local", "cloud"):
        for key in ("forward_headers", "return_headers"):
            for index, header in enumerate(getattr(getattr(tiers, tier), key)):
                is_returned = key == "return_headers"
                if problem := _header_problem(header.lower(), is_returned=is_returned):
                    raise document.error(f"upstreams.{tier}.{key}[{index}]", problem)
    server = config.server
    for index, origin in enumerate(server.cors_origins):
        if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/\s*]+", origin):
            raise document.error(
                f"server.cors_origins[{index}]",
                f"{_shown_value(origin)} is not an origin such as https://chat.example.org",
            )
    if not all(item.key for item in server.api_keys):
        raise document.error("server.api_keys", "an API key is empty")
    if len({item.key for item in server.api_keys}) < len(server.api_keys):
        raise document.error("server.api_keys", "the same API key appears twice")
    _check_key_names(server, document)
    if server.is_open and not server.allow_anonymous:
        raise document.error(
            "server.api_keys",
            f"without API keys anyone who can reach {_shown_value(server.host)} could use the "
            "proxy and your cloud account; set API keys, or server.allow_anonymous: true",
        )
    if (problem := config.storage.url.problem()) is not None:
        raise document.error("storage.url", problem)
    webhook = config.notifications.webhook_url
    if webhook and (problem := _webhook_problem(webhook.reveal())):
        raise document.error("notifications.webhook_url", problem)
    _check_rules(config, document)


def _webhook_problem(url: str) -> str | None:
    """What is wrong with a webhook's address, without any part of it."""
    if "@" in url.partition("?")[0]:
        return "a user name and password in the URL are not supported"
    if not url.isascii() or not is_base_url(url):
        return "is not a URL such as https://hooks.example.org/services/T0/B0/TOKEN"
    return None


def _is_own_address(url: str, server: ServerConfig) -> bool:
    """Whether an upstream would be the proxy itself, which would call itself for ever."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    host = parts.hostname or ""
    return port == server.port and (host == server.host or is_this_machine(host))


def _check_credentials(
    settings: UpstreamConfig | JudgeConfig, section: str, document: "_Document"
) -> None:
    """Check the headers that a server always gets, and that one of them at most is its login."""
    names = [name.lower() for name in settings.headers]
    for name in names:
        place = f"{section}.headers.{name}"
        if not _HEADER_NAME.fullmatch(name):
            raise document.error(place, "has a name that no header can have")
        if _REFUSED_HEADERS.get(name) == _OF_A_CONNECTION or name.startswith("proxy-"):
            problem = "belongs to one connection or body and cannot be set"
            raise document.error(place, f"{_shown_value(name)} {problem}")
        if names.count(name) > 1:
            raise document.error(place, f"{_shown_value(name)} appears twice")
    key = settings.api_key
    logins = [
        *["api_key"] * (key is not None and not _PLACEHOLDER_KEY.fullmatch(key.reveal())),
        *["basic_auth"] * (settings.basic_auth is not None),
        *["headers.authorization"] * ("authorization" in names),
    ]
    if len(logins) > 1:
        problem = f"set only one of {' and '.join(logins)}: each is the header 'authorization'"
        raise document.error(f"{section}.{logins[-1]}", problem)


def is_key_name(name: str) -> bool:
    """Whether an API key may have this name. Pages, terminals, logs and metrics show it."""
    is_short = 0 < len(name) <= MAX_KEY_NAME_CHARS
    return is_short and name.isprintable() and name == name.strip()


def _check_key_names(server: ServerConfig, document: "_Document") -> None:
    """Check that names of API keys are different and printable, and are not keys."""
    keys = {item.key.reveal() for item in server.api_keys}
    seen = {
        default_key_name(key_hash(item.key.reveal()))
        for item in server.api_keys
        if item.name is None
    }
    for index, item in enumerate(server.api_keys):
        if item.name is None:
            continue
        place = f"server.api_keys[{index}].name"
        if item.name in keys:
            raise document.error(place, "is an API key; rules and logs show names")
        if not is_key_name(item.name):
            raise document.error(place, KEY_NAME_RULE)
        if item.name in seen:
            raise document.error(place, "another API key has the same name")
        seen.add(item.name)


def _check_rules(config: Config, document: "_Document") -> None:
    """Check what the types of `routing.rules` cannot express."""
    key_names = frozenset(item.name for item in config.server.api_keys if item.name is not None)
    names: set[str] = set()
    for index, rule in enumerate(config.routing.rules):
        place = f"routing.rules[{index}]"
        if not _RULE_NAME.fullmatch(rule.name):
            raise document.error(
                f"{place}.name", "must be 1 to 60 printable ASCII characters, for a header"
            )
        if rule.name in names:
            raise document.error(
                f"{place}.name", f"{_shown_value(rule.name)} is the name of an earlier rule"
            )
        names.add(rule.name)
        _check_condition(rule.when, f"{place}.when", key_names, document)


def _check_condition(
    when: RuleCondition, place: str, key_names: frozenset[str], document: "_Document"
) -> None:
    if when == RuleCondition():
        raise document.error(place, "needs a condition, such as words or key")
    for name, known in (
        ("category", frozenset(CATEGORIES)),
        ("language", LANGUAGES),
        ("needs", NEEDS),
    ):
        for at, value in _listed(when, name, place):
            if value not in known:
                what = ", ".join(sorted(known))
                raise document.error(at, f"{_shown_value(value)} is not one of: {what}")
    for at, value in _listed(when, "key", place):
        if value not in key_names:
            problem = f"{_shown_value(value)} is not the name of a key in server.api_keys"
            raise document.error(at, problem)
    for at, value in _listed(when, "words", place):
        if not value.strip():
            raise document.error(at, "is empty")
    for at, value in _listed(when, "regex", place):
        try:
            compile_regex([value])
        except PatternError as error:
            problem = "" if _looks_secret(str(error)) else f": {error}"
            raise document.error(at, f"is not a pattern of RE2{problem}") from None
    for name, compiled in (("words", compile_words), ("regex", compile_regex)):
        values = [value for _, value in _listed(when, name, place)]
        try:
            if values:
                compiled(values)
        except PatternError:
            raise document.error(f"{place}.{name}", "has too many or too long values") from None
    headers = when.header or ()
    for header in (headers,) if isinstance(headers, str) else headers:
        if not _HEADER_NAME.fullmatch(header):
            raise document.error(f"{place}.header", "is not the name of a header")
        if header.lower() in _CREDENTIAL_HEADERS:
            raise document.error(f"{place}.header", f"'{header}' is a credential; use key")
    if (tokens := when.prompt_tokens) is not None:
        if tokens == TokenRange():
            raise document.error(f"{place}.prompt_tokens", "needs min or max")
        if tokens.min is not None and tokens.max is not None and tokens.min > tokens.max:
            raise document.error(f"{place}.prompt_tokens.max", "is less than min")


def _listed(when: RuleCondition, name: str, place: str) -> Iterator[tuple[str, str]]:
    """The values of a condition, each with its place in the file."""
    values = getattr(when, name)
    if isinstance(values, str):
        yield f"{place}.{name}", values
    else:
        for index, value in enumerate(values or ()):
            yield f"{place}.{name}[{index}]", value


def _is_plain_http(url: str) -> bool:
    """Whether requests cross the network unencrypted."""
    parts = urlsplit(url)
    return parts.scheme == "http" and not is_this_machine(parts.hostname or "localhost")


def _words(key: str) -> list[str]:
    """The values that a key with an enumeration accepts, for error messages."""
    kinds: list[msgspec.inspect.Type] = [msgspec.inspect.type_info(Config)]
    for name in re.findall(r"[^.\[\]]+", key):
        inner: list[msgspec.inspect.Type] = []
        for kind in kinds:
            match kind:
                case msgspec.inspect.StructType():
                    inner += [field.type for field in kind.fields if field.name == name]
                case msgspec.inspect.VarTupleType():
                    inner.append(kind.item_type)
        kinds = [
            part
            for kind in inner
            for part in (kind.types if isinstance(kind, msgspec.inspect.UnionType) else (kind,))
        ]
    words: list[str] = []
    for kind in kinds:
        match kind:
            case msgspec.inspect.LiteralType():
                words += map(str, kind.values)
            case msgspec.inspect.VarTupleType():
                words.append("a list")
            case msgspec.inspect.IntType() | msgspec.inspect.FloatType():
                words.append("a number")
    return words


_VARIABLE = re.compile(
    r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>(?:(?!\$\{)[^}])*))?\}"
)
_MSGSPEC_PLACE = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<path>[^`]*)`)?$", re.DOTALL)
_UNKNOWN_KEY = re.compile(r"unknown field `(?P<key>.*)`", re.DOTALL)
_MISSING_KEY = re.compile(r"missing required field `(?P<key>[^`]+)`")
_NO_SUCH_WORD = re.compile(r"Invalid enum value (?P<quote>['\"])(?P<word>.*)(?P=quote)", re.DOTALL)
# msgspec uses JSON terms; these are the terms of YAML.
_YAML_NAMES = {
    "`str | object`": "auto or a mapping",
    "`object`": "a mapping",
    "`object | null`": "a mapping or null",
    "`array`": "a list",
    "| array`": "| list`",
}


# What messages never repeat: the values of these keys, and everything below them.
_SECRET_PLACE = re.compile(
    r"(?:server\.api_keys(?:\[\d+\])?"
    r"(?:\.(?:key|name|requests_per_minute|cloud_usd_per_day|optional_tools|admin)(?=$|[.\[]))?"
    r"|(?:upstreams\.[^.]*|judge)\.(?:api_key|headers|basic_auth)(?:\.(?:username|password)(?=$|[.\[]))?"
    r"|storage\.url)(?=$|[.\[])"
)
_FIELDS = frozenset(
    name
    for kind in (
        Config, ServerConfig, ApiKeyConfig, UpstreamsConfig, UpstreamConfig, BasicAuth,
        TimeoutsConfig, ModelConfig, PriceConfig, LongPrices, RoutingConfig, RuleConfig,
        RuleCondition, RuleThreshold, TokenRange, ShadowRouterConfig, BudgetConfig, JudgeConfig,
        StorageConfig, ExperimentsConfig, LoggingConfig,
    )
    for name in kind.__struct_fields__
)  # fmt: skip
_GUESSED_NAMES = frozenset(
    "api_key apikey budget comment description id label limit name rpm secret team token usd user "
    "value".split()
)
_IN_SECONDS = re.compile(r"_seconds$|\.timeouts\.|\.models\[\d+\]\.(?:first_token|idle)$")
_NO_NUMBER = re.compile(r"Expected `float(?: \| null)?`, got")
_KEY_PREFIXES = ("sk-", "pk-", "sk_", "pk_", "gsk_", "hf_", "ghp_", "xai-", "AIza", "AKIA")
_MAX_SHOWN = 100


def _shown_name(name: str) -> str:
    """A key's name for a message. Other names than words may be a secret without its name."""
    bare, bracket, index = name.partition("[")
    is_word = re.fullmatch(r"[a-z_]{1,40}|<<", bare) and not _looks_secret(bare)
    if not is_word and bare.lower().replace("-", "_") not in _FIELDS:
        bare = "***"
    return f"{bare}{bracket}{index}"


def _is_usual_name(name: str) -> bool:
    """Whether a name in `server.api_keys` can only be a misspelt or a guessed setting."""
    meant = get_close_matches(name, ApiKeyConfig.__struct_fields__)
    return not _looks_secret(name) and (bool(meant) or name in _GUESSED_NAMES)


def _path_name(name: str) -> str:
    """A key's name as a part of a path.

    One with `.`, `[` or `]` is masked: the path would be split there, and show parts of a secret.
    """
    return "***" if re.search(r"[.\[\]]", name) else name


def _shown_value(text: str) -> str:
    """A value for a message, unless it may be a secret in the wrong place."""
    is_shown = len(text) <= _MAX_SHOWN and text.isprintable() and not _looks_secret(text)
    return f"'{text}'" if is_shown else "the value"


def _looks_secret(text: str) -> bool:
    """Whether a part of the text has the form of an API key or of a generated password."""
    return any(
        part.startswith(_KEY_PREFIXES)
        or len(part) >= 24
        or (len(part) >= 12 and bool(re.search(r"\d", part) and re.search(r"[A-Za-z]", part)))
        for part in re.findall(r"[\w-]+", text)
    )


def _may_be_a_key(variable: str, key: str) -> bool:
    """Whether the name of a variable may be a secret that stands where its name belongs."""
    is_name = re.fullmatch(r"[A-Z][A-Z_]*[A-Z0-9_]{0,4}", variable)
    return not is_name and (bool(_SECRET_PLACE.match(key)) or _looks_secret(variable))


def _without_quotes(problem: str) -> str:
    """PyYAML's description of a problem, cut before the first quotation longer than a character.

    It quotes names of anchors and tags, where a key without quotation marks can end up.
    """
    found = re.match(r"""(?:[^'"]|'(?:\\?.|<[a-z ]+>)'|"(?:\\?.|')")*""", problem)
    return (found[0].strip() if found else "") or "it cannot be read"


class _Loader(yaml.SafeLoader):
    """With the booleans of YAML 1.2: in `sticky: off` the value is text, not False."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|false|False)$"), list("tTfF")
)


class _Document:
    """A YAML file as plain values, with the line of every key."""

    def __init__(
        self, path: Path, text: str, environ: Mapping[str, str], *, has_secrets: bool = True
    ) -> None:
        self._path = path
        self._has_secrets = has_secrets
        self._environ = environ
        self._lines: dict[str, int] = {}
        self.value: Any
        try:
            loader = _Loader(text)
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise ConfigError(f"{path}:{line}: not valid YAML: {error.reason}") from None
        try:
            root = loader.get_single_node()
            self._loader: Any = loader  # two of its methods have no types
            self.value = {} if root is None else self._build(root, "")
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            problem = _without_quotes(error.problem or "")
            raise ConfigError(f"{path}:{line}: not valid YAML: {problem}") from None
        except (yaml.YAMLError, RecursionError, OverflowError, ValueError):
            raise ConfigError(f"{path}: not valid YAML: it cannot be read") from None
        finally:
            loader.dispose()
        if not isinstance(self.value, dict):
            raise ConfigError(f"{path}:1: expected a mapping of sections such as 'upstreams:'")

    def error(self, key: str, problem: str, *, shown: str | None = None) -> ConfigError:
        """The error for a key, with the line of the key or of its nearest parent in the file.

        Args:
            shown: the key in the message; by default without names that may be a secret.
        """
        parent = key
        while parent and parent not in self._lines:
            parent = re.sub(r"(\.[^.\[]*|\[\d+\]|^[^.\[]*)$", "", parent)
        line = self._lines.get(parent, 1)
        shown = self._shown_key(key) if shown is None else shown
        return ConfigError(f"{self._path}:{line}: {shown or 'file'}: {problem}")

    def move(self, key: str, new_key: str, *, lines: int = 0) -> None:
        """Give what is below a key the places of another one, some lines further down."""
        self._lines = {
            new_key + name.removeprefix(key) if name.startswith(key) else name: line + lines
            for name, line in self._lines.items()
        }

    def _shown_key(self, key: str) -> str:
        """The path of a key, without names that may be a misplaced secret."""
        if not self._has_secrets:
            return key
        if secret := _SECRET_PLACE.match(key):
            key = secret[0]
        return ".".join(map(_shown_name, key.split("."))) if key else key

    def refuse(self, msgspec_text: str, *, at: str = "") -> ConfigError:
        """Translate msgspec's `... - at `$.routing.threshold`` into a place in this file.

        Args:
            at: the key of the converted value in the file.
        """
        match = _MSGSPEC_PLACE.match(msgspec_text)
        assert match is not None  # the pattern matches every text
        # `[...]` is a value of a mapping, whose name msgspec does not say.
        path = (match["path"] or "").partition("[...]")[0]
        what, key = match["what"], f"{at}{path}".lstrip(".")
        if unknown := _UNKNOWN_KEY.search(what):
            return self._refuse_key(key, unknown["key"])
        if missing := _MISSING_KEY.search(what):
            return self.error(f"{key}.{missing['key']}".lstrip("."), "is missing")
        if wrong := _NO_SUCH_WORD.search(what):
            word = _shown_value(wrong["word"])
            return self.error(key, f"{word} is not one of: {', '.join(_words(key))}")
        if _IN_SECONDS.search(key) and _NO_NUMBER.match(what):
            return self.error(key, "expected a number of seconds")
        for json_name, yaml_name in _YAML_NAMES.items():
            what = what.replace(json_name, yaml_name)
        if key not in self._lines:
            key = re.sub(
                r"^(server\.api_keys\[\d+\])\.key$", r"\1", key
            )  # the short form has no `key`
        return self.error(key, what[:1].lower() + what[1:])

    def _refuse_key(self, key: str, name: str) -> ConfigError:
        """The error for an unknown key, named if it can only be a misspelt name."""
        if self._has_secrets:
            name = _path_name(name)
        place = f"{key}.{name}".lstrip(".")
        item = re.fullmatch(r"server\.api_keys\[(\d+)\]", key)
        entry = self.value["server"]["api_keys"][int(item[1])] if item else {}
        # Without a `key`, the name may be the key itself.
        if item and ("key" in entry or _is_usual_name(name)):
            return self.error(place, "unknown key", shown=f"{key}.{_shown_name(name)}")
        return self.error(place, "unknown key")

    def _build(self, node: yaml.Node, key: str) -> object:
        self._lines.setdefault(key, node.start_mark.line + 1)
        match node:
            case yaml.MappingNode():
                return self._build_mapping(node, key)
            case yaml.SequenceNode():
                return [
                    self._build(child, f"{key}[{index}]") for index, child in enumerate(node.value)
                ]
            case _:
                return self._build_scalar(cast(yaml.ScalarNode, node), key)

    def _build_mapping(self, node: yaml.MappingNode, key: str) -> dict[str, object]:
        values: dict[str, object] = {}
        for key_node, child in node.value:
            name = str(key_node.value)
            path = f"{key}.{_path_name(name) if self._has_secrets else name}".lstrip(".")
            self._lines[path] = key_node.start_mark.line + 1
            if name in values:
                raise self.error(path, "appears twice")
            values[name] = self._build(child, path)
        return values

    def _build_scalar(self, node: yaml.ScalarNode, key: str) -> object:
        text, tag = str(node.value), node.tag
        if "${" in text:
            if "${" in _VARIABLE.sub("", text):
                shown = "a variable" if _SECRET_PLACE.match(key) else _shown_value(text)
                raise self.error(key, f"{shown} is neither ${{VAR}} nor ${{VAR:-default}}")
            text = _VARIABLE.sub(lambda match: self._look_up(match, key), text)
            if node.style is None:  # a plain scalar has the type of the inserted value
                tag = self._loader.resolve(yaml.ScalarNode, text, (True, False))
        scalar = yaml.ScalarNode(tag, text, node.start_mark, node.end_mark)
        try:
            value = self._loader.construct_object(scalar)
        except yaml.MarkedYAMLError as error:
            problem = _without_quotes(error.problem or "")
            raise self.error(key, f"not valid YAML: {problem}") from None
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            # PyYAML has no errors of its own for a text that does not have the form of its type.
            kind = tag.rpartition(":")[2] if tag.startswith("tag:yaml.org,2002:") else "its type"
            raise self.error(key, f"not valid YAML: not a value of {kind}") from None
        if isinstance(value, float) and not math.isfinite(value):
            raise self.error(key, "must be a finite number")
        return cast(object, value)

    def _look_up(self, match: re.Match[str], key: str) -> str:
        name, default = match["name"], match["default"]
        value = self._environ.get(name) or default
        if value is None:
            shown = "variable" if _may_be_a_key(name, key) else f"variable {name}"
            raise self.error(key, f"the environment {shown} is not set and has no default")
        return value
