"""HTTP: the OpenAI endpoints, the JSON APIs, the pages, and each client's connection.

This package decides nothing about a request; the gateway does.
"""

from proxy.web import (
    choices_api,
    dashboard_api,
    experiments_api,
    native_api,
    openai_api,
    pages,
    service_api,
)
from proxy.web.client_connection import IS_DRAINING, Connection

__all__ = [
    "IS_DRAINING",
    "Connection",
    "choices_api",
    "dashboard_api",
    "experiments_api",
    "native_api",
    "openai_api",
    "pages",
    "service_api",
]
