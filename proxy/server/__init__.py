"""The running process: constructs every component, reloads the configuration, runs the workers.

`app` constructs the components; a component constructs its private parts only.
"""

from proxy.server.app import Proxy, judge_identity, open_judge
from proxy.server.listening import CannotListen, check_address
from proxy.server.models import load_router
from proxy.server.notifications import send_test_message
from proxy.server.server import Server
from proxy.server.workers import Workers, check_worker_keys, is_worker, worker_slot

__all__ = [
    "CannotListen",
    "Proxy",
    "Server",
    "Workers",
    "check_address",
    "check_worker_keys",
    "is_worker",
    "judge_identity",
    "load_router",
    "open_judge",
    "send_test_message",
    "worker_slot",
]
