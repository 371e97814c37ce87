"""The database behind `storage.url`: tables, migrations, the row writer, rollups and queries.

This package does not know prices, budgets or how the quality of an answer is estimated.
"""

from proxy.storage import tables
from proxy.storage.audit import AuditLog
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
from proxy.storage.error_groups import ErrorGroup
from proxy.storage.lookups import NotedAnswer, StoredResponse
from proxy.storage.maintenance import Maintenance
from proxy.storage.migrations import NEWEST, migrate
from proxy.storage.network_mounts import network_storage_warning
from proxy.storage.notices import Notices
from proxy.storage.queries import (
    DETAIL_FILTERS,
    TOTALS_FILTERS,
    Dimension,
    HourlySpend,
    KeyTotals,
    MeritBucket,
    Quantiles,
    RequestQueries,
    Totals,
    failure_rate,
    local_share,
    start_of_day,
    start_of_hour,
)
from proxy.storage.read_only import Queries
from proxy.storage.recent import RecentRequests, RoutedRequest, ScoredRequest
from proxy.storage.request_log import (
    FIGURE_ROWS,
    SORTS,
    RequestLog,
    RequestPage,
    Sort,
    parse_turns,
)
from proxy.storage.shared_limits import MINUTE_SECONDS, SharedLimits
from proxy.storage.stored_keys import (
    KEY_ACTIONS,
    KeyNameTaken,
    KeyRow,
    LastAdmin,
    StoredKeys,
    TooManyKeys,
)
from proxy.storage.writer import Store, retry_until_written

__all__ = [
    "DETAIL_FILTERS",
    "FAILURES",
    "FIGURE_ROWS",
    "KEY_ACTIONS",
    "MINUTE_SECONDS",
    "NEWEST",
    "SORTS",
    "TOTALS_FILTERS",
    "AuditLog",
    "Dimension",
    "ErrorGroup",
    "HourlySpend",
    "KeyNameTaken",
    "KeyRow",
    "KeyTotals",
    "LastAdmin",
    "Maintenance",
    "MeritBucket",
    "NotedAnswer",
    "Notices",
    "Quantiles",
    "Queries",
    "RecentRequests",
    "RequestLog",
    "RequestPage",
    "RequestQueries",
    "RoutedRequest",
    "ScoredRequest",
    "SharedLimits",
    "Sort",
    "Store",
    "StoreUnavailable",
    "StoredKeys",
    "StoredResponse",
    "TooManyKeys",
    "Totals",
    "close_all",
    "exclusive_transaction",
    "failure_rate",
    "is_postgresql",
    "local_share",
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
