"""Whether a replica can answer, by the evidence of requests and of looks at its model list.

Evidence, and what it says:
    an answered request: up.
    a refused connection: down.
    another failed request: nothing yet. The replica is looked at within seconds, and the look
        decides. So one failure of one request is no outage, and needs no later request to be over.
    a look: see `LookResult`. An idle replica is looked at now and then, so that an outage without
        traffic is noticed, too.

The circuit breaker decides where requests go, by rules of its own. The two agree in one direction:
a replica that gets no requests is not up.
"""

import math
from enum import Enum, auto
from typing import Final, NamedTuple

# Looks that get no answer in time before a replica is down: one may be lost in a short overload.
MAX_SILENT_LOOKS: Final = 2


class LookResult(Enum):
    """The result of a request for a replica's model list, which costs nothing."""

    LISTED = auto()  # a list of models
    LIMITED = auto()  # 429: it answers, but not now
    NO_LIST = auto()  # 404, 405, 501: a server without a model list
    REFUSED = auto()  # 401, 403, 407: the credentials are wrong
    OTHER = auto()  # a redirect, a web page, another error of the request
    BROKEN = auto()  # a server error
    SILENT = auto()  # nothing within the time limit
    UNREACHABLE = auto()  # no connection, or it broke


# They say little about the answers to requests.
_INDIRECT: Final = (LookResult.NO_LIST, LookResult.REFUSED, LookResult.OTHER)
# A server that runs gives another result.
NOT_RUNNING: Final = (LookResult.BROKEN, LookResult.SILENT, LookResult.UNREACHABLE)


class Look(NamedTuple):
    """A look and, unless it is LISTED, what is wrong in words."""

    result: LookResult
    problem: str | None = None


class ReplicaHealth:
    """The health of one replica. All times come from the caller, in seconds of one clock.

    Args:
        may_lack_list: whether a server without a model list counts as up before it has answered
            any request. For a local server a wrong base_url is the likelier reason.
        look_seconds: how long a replica without other evidence is not looked at.

    Attributes:
        up: None while nothing is known.
        problem: what the last look has found, in words; None if nothing.
        is_suspect: whether the last outcome was a failure, so that it must be looked at.
    """

    __slots__ = (
        "_answers", "_last_look", "_look_seconds", "_may_lack_list", "_misleads", "_seen_at",
        "_silent_looks", "is_suspect", "problem", "up",
    )  # fmt: skip

    def __init__(self, *, may_lack_list: bool, look_seconds: float) -> None:
        self._may_lack_list = may_lack_list
        self._look_seconds = look_seconds
        self.up: bool | None = None
        self.problem: str | None = None
        self.is_suspect = False
        self._answers = False  # whether the last request was answered
        self._last_look: LookResult | None = None
        self._misleads = False  # whether requests were answered although there was no list
        self._silent_looks = 0  # in a row
        self._seen_at = -math.inf  # the last answered request, or look

    def needs_look(self, now: float) -> bool:
        """Whether a look is due."""
        return self.is_suspect or now - self._seen_at >= self._look_seconds

    def record_answer(self, now: float) -> None:
        """Record an answered request."""
        self._seen_at = now
        if self.up and not self.is_suspect and self._answers:
            return
        self._misleads = self._misleads or self._last_look in _INDIRECT
        self.up, self.problem, self.is_suspect, self._answers = True, None, False, True
        self._silent_looks = 0

    def record_refusal(self) -> None:
        """Record a request whose credentials were refused: of the client, or of the tier."""
        self.is_suspect, self._answers, self._misleads = True, False, False

    def record_failure(self, *, is_proof: bool) -> None:
        """Record a failed request.

        Args:
            is_proof: the replica refused the connection, or failed a request of the proxy's own.
        """
        self.is_suspect, self._answers = True, False
        if is_proof:
            self.up = False

    def record_look(self, look: Look, now: float, *, is_busy: bool) -> None:
        """Record a look.

        Args:
            is_busy: whether requests are in flight. A busy server may be late with its list.
        """
        self._seen_at, self._last_look = now, look.result
        if look.result is LookResult.SILENT:
            if is_busy:
                return
            self._silent_looks += 1
            if self.up and self._silent_looks < MAX_SILENT_LOOKS:
                self.is_suspect = True
                return
        else:
            self._silent_looks = 0
        self.up = self._is_up_after(look.result)
        self.problem = None if self.up else look.problem
        # Only a person can make credentials right, so they are no reason to look again soon.
        self.is_suspect = not self.up and look.result is not LookResult.REFUSED

    def _is_up_after(self, result: LookResult) -> bool:
        match result:
            case LookResult.LISTED | LookResult.LIMITED:
                return True
            case LookResult.NO_LIST:
                return self._may_lack_list or self._answers or self._misleads
            case LookResult.REFUSED | LookResult.OTHER:
                # Some keys may use models but not list them; some gateways have a page there.
                return self._misleads
            case LookResult.BROKEN | LookResult.SILENT | LookResult.UNREACHABLE:
                return False
