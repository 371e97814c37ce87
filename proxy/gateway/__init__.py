"""One request from its body to its record: decide, open the upstream, relay, record.

This package does not know Litestar or how a client is connected.
"""

from proxy.gateway.call import Snapshot
from proxy.gateway.conversations import Conversations
from proxy.gateway.failover import FIRST_WAIT_SECONDS
from proxy.gateway.gateway import Gateway
from proxy.gateway.refusal import send_error

__all__ = [
    "FIRST_WAIT_SECONDS",
    "Conversations",
    "Gateway",
    "Snapshot",
    "send_error",
]
