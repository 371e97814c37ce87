"""The two tiers as HTTP servers: connections, replicas, circuit breakers, queues and capabilities.

This package does not know why a request was sent to a tier or what its answer means.
"""

from proxy.upstream.capabilities import Capabilities
from proxy.upstream.http1 import Delivery
from proxy.upstream.learned import FEATURES_SECONDS, Learned
from proxy.upstream.response import TRANSPORT_ERRORS, UpstreamResponse
from proxy.upstream.running_models import LOAD_SECONDS
from proxy.upstream.transport import check_network, open_transport
from proxy.upstream.upstream import Body, Upstream

__all__ = [
    "FEATURES_SECONDS",
    "LOAD_SECONDS",
    "TRANSPORT_ERRORS",
    "Body",
    "Capabilities",
    "Delivery",
    "Learned",
    "Upstream",
    "UpstreamResponse",
    "check_network",
    "open_transport",
]
