"""The routing decision: the client's preference, rules, the score, the local model's limits.

This package does not send requests and does not know what an answer costs.
"""

from proxy.routing.front_ends import is_built_in, may_leave_out
from proxy.routing.local_limits import LimitExceeded, LocalLimits, features_of
from proxy.routing.model_names import (
    find_local,
    has_local_form,
    own_name,
    suggest_name,
    without_connection,
)
from proxy.routing.router import (
    Decision,
    Model,
    Router,
    RoutingPreference,
    Scorer,
    read_headers,
    read_share,
    wants_no_store,
)
from proxy.routing.rules import Rule, RuleInput, Rules
from proxy.routing.shadow_router import TIMEOUT_SECONDS, ShadowRouter
from proxy.routing.verifier import Verifier

__all__ = [
    "TIMEOUT_SECONDS",
    "Decision",
    "LimitExceeded",
    "LocalLimits",
    "Model",
    "Router",
    "RoutingPreference",
    "Rule",
    "RuleInput",
    "Rules",
    "Scorer",
    "ShadowRouter",
    "Verifier",
    "features_of",
    "find_local",
    "has_local_form",
    "is_built_in",
    "may_leave_out",
    "own_name",
    "read_headers",
    "read_share",
    "suggest_name",
    "wants_no_store",
    "without_connection",
]
