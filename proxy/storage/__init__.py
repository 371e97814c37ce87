"""The database behind `storage.url`: tables, migrations, the row writer, rollups and queries.

This package does not know prices, budgets or how the quality of an answer is estimated.
"""

from proxy.storage import tables
from proxy.storage.database import (
    FAILURES,
    StoreUnavailable,
    close_all,
    exclusive_transaction,
    is_postgresql,
    open_database,
    redacted_url,
    storable,
)
from proxy.storage.lookups import NotedAnswer, StoredResponse
from proxy.storage.maintenance import Maintenance
from proxy.storage.migrations import NEWEST, migrate
from proxy.storage.network_mounts import network_storage_warning
from proxy.storage.queries import (
    DETAIL_FILTERS,
    TOTALS_FILTERS,
    Dimension,
    Group,
    HourlySpend,
    MeritBucket,
    Quantiles,
    RequestQueries,
    Totals,
    start_of_day,
    start_of_hour,
)
from proxy.storage.read_only import Queries
from proxy.storage.request_log import (
    FIGURE_ROWS,
    SORTS,
    RequestLog,
    RequestPage,
    Sort,
    parse_turns,
)
from proxy.storage.shared_limits import MINUTE_SECONDS, SharedLimits
from proxy.storage.writer import Store, retry_until_written

__all__ = [
    "DETAIL_FILTERS",
    "FAILURES",
    "FIGURE_ROWS",
    "MINUTE_SECONDS",
    "NEWEST",
    "SORTS",
    "TOTALS_FILTERS",
    "Dimension",
    "Group",
    "HourlySpend",
    "Maintenance",
    "MeritBucket",
    "NotedAnswer",
    "Quantiles",
    "Queries",
    "RequestLog",
    "RequestPage",
    "RequestQueries",
    "SharedLimits",
    "Sort",
    "Store",
    "StoreUnavailable",
    "StoredResponse",
    "Totals",
    "close_all",
    "exclusive_transaction",
    "is_postgresql",
    "migrate",
    "network_storage_warning",
    "open_database",
    "parse_turns",
    "redacted_url",
    "retry_until_written",
    "start_of_day",
    "start_of_hour",
    "storable",
    "tables",
]
