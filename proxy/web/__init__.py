"""HTTP: the OpenAI endpoints, the JSON APIs, the pages, and each client's connection.

This package decides nothing about a request; the gateway does.
"""

from proxy.web import (
    choices_api,
    dashboard_api,
    experiments_api,
    keys_api,
    native_api,
    openai_api,
    pages,
    service_api,
    threshold_api,
)
from proxy.web.client_connection import IS_DRAINING, Connection
from proxy.web.key_directory import KeyDirectory

__all__ = [
    "IS_DRAINING",
    "Connection",
    "KeyDirectory",
    "choices_api",
    "dashboard_api",
    "experiments_api",
    "keys_api",
    "native_api",
    "openai_api",
    "pages",
    "service_api",
    "threshold_api",
]
