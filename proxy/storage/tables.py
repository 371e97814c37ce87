"""The tables as peewee models, with the meaning of their columns. `migrations` creates them.

Times are UNIX seconds, durations milliseconds, money USD. Null means unknown or not applicable:
a rejected request has no target.
"""

from typing import Any, Final

import peewee


class Request(peewee.Model):
    """One request: its routing decision, durations, tokens, cost and ending."""

    id = peewee.TextField(primary_key=True)
    created_at = peewee.DoubleField()
    endpoint = peewee.TextField()
    requested_model = peewee.TextField(null=True)
    target = peewee.TextField(null=True)
    model = peewee.TextField(null=True)
    reason = peewee.TextField(null=True)
    score = peewee.DoubleField(null=True)
    p_local = peewee.DoubleField(null=True)
    p_cloud = peewee.DoubleField(null=True)
    threshold = peewee.DoubleField(null=True)
    decision_ms = peewee.DoubleField(null=True)
    ttft_ms = peewee.DoubleField(null=True)
    duration_ms = peewee.DoubleField()
    upstream_ms = peewee.DoubleField(null=True)
    status = peewee.IntegerField(null=True)
    ending = peewee.TextField()
    streamed = peewee.BooleanField()
    input_tokens = peewee.BigIntegerField(null=True)
    cached_input_tokens = peewee.BigIntegerField(null=True)
    output_tokens = peewee.BigIntegerField(null=True)
    reasoning_tokens = peewee.BigIntegerField(null=True)  # part of the output
    usage_source = peewee.TextField(null=True)
    cost_usd = peewee.DoubleField(null=True)
    cloud_cost_usd = peewee.DoubleField(null=True)
    saved_usd = peewee.DoubleField(null=True)
    category = peewee.TextField(null=True)
    prompt = peewee.TextField(null=True)
    response = peewee.TextField(null=True)
    fallback_from = peewee.TextField(null=True)
    fallback_why = peewee.TextField(null=True)
    session_id = peewee.TextField(null=True)
    history_hash = peewee.TextField(null=True)  # the key of the answer in its conversation
    client_key_hash = peewee.TextField(null=True)
    error = peewee.TextField(null=True)
    error_code = peewee.TextField(null=True)
    # Probability of the chosen tier: 1 unless exploration was possible.
    propensity = peewee.DoubleField(null=True)
    candidate_score = peewee.DoubleField(null=True)  # merit of the shadow router
    rule = peewee.TextField(null=True)  # name of the routing rule that matched
    merit = peewee.DoubleField(null=True)  # null where nothing was compared with the threshold
    failed_check = peewee.TextField(null=True)  # the hard check that the local answer failed
    discarded_tokens = peewee.BigIntegerField(null=True)  # of local answers that were not sent
    # Of the second look (`record.SecondLookResult`); null where none was due. `evidence` is JSON.
    second_look = peewee.TextField(null=True)
    evidence = peewee.TextField(null=True)
    verified_score = peewee.DoubleField(null=True)
    verified_merit = peewee.DoubleField(null=True)
    second_look_ms = peewee.DoubleField(null=True)
    # Parts of the last attempt: waiting for a slot of the tier, and for a connection.
    queue_ms = peewee.DoubleField(null=True)
    connect_ms = peewee.DoubleField(null=True)
    # Since the request arrived: the start of the upstream's time, and of the last attempt.
    opened_ms = peewee.DoubleField(null=True)
    attempt_ms = peewee.DoubleField(null=True)
    fallback_error = peewee.TextField(null=True)  # what the first tier said, if it failed
    # Whether the threshold was not the configured one but that of the request or of a rule. Null in
    # rows of older versions.
    own_threshold = peewee.BooleanField(null=True)

    class Meta:
        table_name = "requests"


class Body(peewee.Model):
    """The JSON of a request and of its answer, as they were sent. Only with `storage.bodies`.

    Both are shortened (`bodies.shorten_body`). A stream is the text of its events.
    """

    request_id = peewee.TextField(primary_key=True)
    created_at = peewee.DoubleField()
    request = peewee.TextField(null=True)
    response = peewee.TextField(null=True)

    class Meta:
        table_name = "bodies"


class Judgement(peewee.Model):
    """A judge's grade of one answer: the client's, or that of the other tier.

    `score` is 1-10 by router_model.rubric; `model` gave the answer.
    """

    id = peewee.AutoField()
    request_id = peewee.TextField()
    created_at = peewee.DoubleField()
    target = peewee.TextField()
    model = peewee.TextField()
    score = peewee.DoubleField()
    judge_model = peewee.TextField()
    reason = peewee.TextField(null=True)

    class Meta:
        table_name = "judgements"


class Sample(peewee.Model):
    """A request that was sampled for judging, and its progress.

    `kind` is grade (the client's answer is graded) or pair (the other tier answers too, and both
    answers are graded and compared). `propensity` is the probability of being sampled as this
    kind, fixed before sampling. `turn` is a random sort key, so that a spent budget leaves out no
    particular hour. `state` is pending, done or refused (`why`). `body` is the original request
    for the other tier; it is deleted when the sample is done. `evidence` is that of the local
    answer, as in `requests`. One judge holds a sample (`claimed_by`) until `next_at`.
    """

    request_id = peewee.TextField(primary_key=True)
    created_at = peewee.DoubleField()
    kind = peewee.TextField()
    propensity = peewee.DoubleField()
    turn = peewee.DoubleField()
    state = peewee.TextField()
    attempts = peewee.IntegerField()
    next_at = peewee.DoubleField()
    claimed_by = peewee.TextField(null=True)
    body = peewee.TextField(null=True)
    other_model = peewee.TextField(null=True)
    other_response = peewee.TextField(null=True)
    why = peewee.TextField(null=True)
    evidence = peewee.TextField(null=True)

    class Meta:
        table_name = "samples"


class Preference(peewee.Model):
    """Which of two answers a judge prefers: local, cloud or tie.

    `verdict` merges two comparisons, one for each order of the answers.
    """

    request_id = peewee.TextField()
    created_at = peewee.DoubleField()
    judge_model = peewee.TextField()
    verdict = peewee.TextField()
    first = peewee.TextField()
    swapped = peewee.TextField()

    class Meta:
        table_name = "preferences"


class Choice(peewee.Model):
    """Which of two answers a user prefers: local, cloud or tie.

    `request_id` is the first answer's request, `other_id` that of the other tier. `source` is the
    page (chat or compare). `is_blind` says that the tiers were hidden until the choice, `may_learn`
    that the user lets calibration use it.
    """

    id = peewee.AutoField()
    created_at = peewee.DoubleField()
    request_id = peewee.TextField()
    other_id = peewee.TextField()
    client_key_hash = peewee.TextField(null=True)
    source = peewee.TextField()
    choice = peewee.TextField()
    is_blind = peewee.BooleanField()
    may_learn = peewee.BooleanField()
    local_model = peewee.TextField()
    cloud_model = peewee.TextField()
    category = peewee.TextField(null=True)

    class Meta:
        table_name = "choices"


class Expense(peewee.Model):
    """The cost of a call that no client made. `purpose` is judge or shadow.

    Reserved before the call at its maximum cost, and settled with the actual cost.
    """

    id = peewee.AutoField()
    created_at = peewee.DoubleField()
    purpose = peewee.TextField()
    request_id = peewee.TextField()
    model = peewee.TextField()
    usd = peewee.DoubleField()
    is_settled = peewee.BooleanField()

    class Meta:
        table_name = "expenses"


class Response(peewee.Model):
    """An answer of the Responses API that a client may continue: its tier and its owner.

    `items` (input and output as JSON, the first `input_items` are input) and `body` are stored
    for the local tier only, which has no storage of its own.
    """

    id = peewee.TextField(primary_key=True)
    created_at = peewee.DoubleField()
    target = peewee.TextField()
    client_key_hash = peewee.TextField(null=True)
    items = peewee.TextField(null=True)
    input_items = peewee.IntegerField()
    body = peewee.TextField(null=True)

    class Meta:
        table_name = "responses"


class Feedback(peewee.Model):
    """A client's rating of an answer, -1 to 1. The latest rating replaces earlier ones."""

    request_id = peewee.TextField(primary_key=True)
    created_at = peewee.DoubleField()
    rating = peewee.DoubleField()
    comment = peewee.TextField(null=True)

    class Meta:
        table_name = "feedback"


class Job(peewee.Model):
    """A run of a pipeline step: its progress, or how it ended.

    `state` is running, done, failed, cancelled or interrupted (its process stopped or died). At
    most one job is running. `worker` names its process, whose heartbeat is `seen_at`. `arguments`
    is JSON. `log` is the end of the output, after `log_start` characters. `progress` is the share
    of what `message` names.
    """

    id = peewee.TextField(primary_key=True)
    step = peewee.TextField()
    arguments = peewee.TextField()
    state = peewee.TextField()
    created_at = peewee.DoubleField()
    started_at = peewee.DoubleField(null=True)
    ended_at = peewee.DoubleField(null=True)
    exit_status = peewee.IntegerField(null=True)
    host = peewee.TextField()
    pid = peewee.IntegerField(null=True)
    worker = peewee.TextField()
    seen_at = peewee.DoubleField()
    is_unwanted = peewee.BooleanField()  # cancellation was requested
    progress = peewee.DoubleField(null=True)
    message = peewee.TextField(null=True)
    log = peewee.TextField()
    log_start = peewee.BigIntegerField()
    cost_usd = peewee.DoubleField(null=True)

    class Meta:
        table_name = "jobs"


class LearningStep(peewee.Model):
    """A step of self-calibration (`learning.steps.LearningStep`). Rows are kept forever.

    `state` is running, done or failed. At most one step is running; it is orphaned after
    `expires_at`. `manifest` is the router model's manifest that the step made, `previous` the one
    that an activation replaced, both JSON.
    """

    id = peewee.AutoField()
    created_at = peewee.DoubleField()
    ended_at = peewee.DoubleField(null=True)
    expires_at = peewee.DoubleField()
    kind = peewee.TextField()
    state = peewee.TextField()
    worker = peewee.TextField()
    local_model = peewee.TextField()
    cloud_model = peewee.TextField()
    second_model = peewee.TextField()
    judgement_id = peewee.BigIntegerField()
    version_before = peewee.TextField(null=True)
    version = peewee.TextField(null=True)
    test = peewee.IntegerField(null=True)
    pairs = peewee.IntegerField(null=True)
    tested = peewee.IntegerField(null=True)
    evidence = peewee.IntegerField(null=True)
    cost_share = peewee.DoubleField(null=True)
    difference = peewee.DoubleField(null=True)
    low = peewee.DoubleField(null=True)
    high = peewee.DoubleField(null=True)
    level = peewee.DoubleField(null=True)
    decision = peewee.TextField(null=True)
    why = peewee.TextField(null=True)
    manifest = peewee.TextField(null=True)
    previous = peewee.TextField(null=True)

    class Meta:
        table_name = "learning_steps"


class StoredApiKey(peewee.Model):
    """An API key that an admin created, beside those of the configuration. Rows are kept forever.

    The key is not stored: `digest` is its SHA-256 in hex, `key_hash` the short name that other
    tables use, `prefix` its first characters, to recognize it. A key with `revoked_at` is refused.
    """

    key_hash = peewee.TextField(primary_key=True)
    digest = peewee.TextField()
    name = peewee.TextField()
    prefix = peewee.TextField()
    created_at = peewee.DoubleField()
    created_by = peewee.TextField(null=True)
    revoked_at = peewee.DoubleField(null=True)
    is_admin = peewee.BooleanField()
    requests_per_minute = peewee.IntegerField(null=True)
    cloud_usd_per_day = peewee.DoubleField(null=True)

    class Meta:
        table_name = "api_keys"


class AuditEntry(peewee.Model):
    """A change that an admin made on a page. Rows are kept forever.

    `actor` is the hash of the admin's key (null without keys), `subject` what was changed,
    `details` JSON.
    """

    id = peewee.AutoField()
    created_at = peewee.DoubleField()
    actor = peewee.TextField(null=True)
    action = peewee.TextField()
    subject = peewee.TextField()
    details = peewee.TextField(null=True)

    class Meta:
        table_name = "audit_log"


class Notification(peewee.Model):
    """What was last notified of, so that one of several processes does it.

    `name` is an event and its subject; of an outage `is_active` says whether it goes on.
    """

    name = peewee.TextField(primary_key=True)
    is_active = peewee.BooleanField()
    claimed_at = peewee.DoubleField()

    class Meta:
        table_name = "notifications"


class TokenBucket(peewee.Model):
    """The token bucket of an API key, shared by all processes: when it is full again."""

    key_hash = peewee.TextField(primary_key=True)
    full_at = peewee.DoubleField()

    class Meta:
        table_name = "rates"


class Lease(peewee.Model):
    """The part of a daily budget that one process has drawn, spent or not.

    `name` is the hash of an API key, or empty for the global budget. `day` counts from 1970.
    `holder` names one run of a process; its row stays after the process has ended.
    """

    day = peewee.BigIntegerField()
    name = peewee.TextField()
    holder = peewee.TextField()
    usd = peewee.DoubleField()

    class Meta:
        table_name = "leases"
        primary_key = peewee.CompositeKey("day", "name", "holder")


class HourlyTotals(peewee.Model):
    """Totals over the requests of one hour (UTC) that share all dimensions.

    Updated in the transaction that writes the rows. A query over a million requests reads some
    thousand of these rows. Retention deletes requests, not their totals. A missing text is empty.
    Money is in picodollars, so sums are exact.
    """

    hour = peewee.BigIntegerField()  # its start, in UNIX seconds
    endpoint = peewee.TextField()
    target = peewee.TextField()
    model = peewee.TextField()
    reason = peewee.TextField()
    ending = peewee.TextField()
    category = peewee.TextField()
    requests = peewee.BigIntegerField()
    streamed = peewee.BigIntegerField()
    fallbacks = peewee.BigIntegerField()
    estimated = peewee.BigIntegerField()  # requests without token counts from the upstream
    input_tokens = peewee.BigIntegerField()
    cached_input_tokens = peewee.BigIntegerField()
    output_tokens = peewee.BigIntegerField()
    reasoning_tokens = peewee.BigIntegerField()
    cost_pico = peewee.BigIntegerField()
    cloud_cost_pico = peewee.BigIntegerField()
    saved_pico = peewee.BigIntegerField()

    class Meta:
        table_name = "hours"
        primary_key = peewee.CompositeKey(
            "hour", "endpoint", "target", "model", "reason", "ending", "category"
        )


class HourlyHistogram(peewee.Model):
    """A histogram of one measure over the requests of one hour.

    `rollups` defines the measures and their buckets. `cloud_cost_pico` is the actual or
    hypothetical cloud cost of the requests in the bucket.
    """

    hour = peewee.BigIntegerField()
    measure = peewee.TextField()
    target = peewee.TextField()
    bucket = peewee.IntegerField()
    requests = peewee.BigIntegerField()
    cloud_cost_pico = peewee.BigIntegerField()

    class Meta:
        table_name = "spreads"
        primary_key = peewee.CompositeKey("hour", "measure", "target", "bucket")


class DailyHistogram(peewee.Model):
    """The same histogram for a whole day (UTC), so that a month needs fewer rows."""

    day = peewee.BigIntegerField()  # its start, in UNIX seconds
    measure = peewee.TextField()
    target = peewee.TextField()
    bucket = peewee.IntegerField()
    requests = peewee.BigIntegerField()
    cloud_cost_pico = peewee.BigIntegerField()

    class Meta:
        table_name = "day_spreads"
        primary_key = peewee.CompositeKey("day", "measure", "target", "bucket")


class HourlyKeyTotals(peewee.Model):
    """Totals over the requests of one API key in one hour (UTC), by tier and ending.

    As in `HourlyTotals`, money is in picodollars and retention does not delete.
    """

    hour = peewee.BigIntegerField()  # its start, in UNIX seconds
    key_hash = peewee.TextField()
    target = peewee.TextField()
    ending = peewee.TextField()
    requests = peewee.BigIntegerField()
    input_tokens = peewee.BigIntegerField()
    cached_input_tokens = peewee.BigIntegerField()
    output_tokens = peewee.BigIntegerField()
    cost_pico = peewee.BigIntegerField()
    cloud_cost_pico = peewee.BigIntegerField()
    saved_pico = peewee.BigIntegerField()

    class Meta:
        table_name = "key_hours"
        primary_key = peewee.CompositeKey("hour", "key_hash", "target", "ending")


class DailyKeyTotals(peewee.Model):
    """The same totals for a whole day (UTC), so that a month needs fewer rows."""

    day = peewee.BigIntegerField()  # its start, in UNIX seconds
    key_hash = peewee.TextField()
    target = peewee.TextField()
    ending = peewee.TextField()
    requests = peewee.BigIntegerField()
    input_tokens = peewee.BigIntegerField()
    cached_input_tokens = peewee.BigIntegerField()
    output_tokens = peewee.BigIntegerField()
    cost_pico = peewee.BigIntegerField()
    cloud_cost_pico = peewee.BigIntegerField()
    saved_pico = peewee.BigIntegerField()

    class Meta:
        table_name = "key_days"
        primary_key = peewee.CompositeKey("day", "key_hash", "target", "ending")


TABLES: Final = (
    Request, Body, Judgement, Sample, Preference, Choice, Expense, Response, Feedback, Job,
    LearningStep, StoredApiKey, AuditEntry, Notification, TokenBucket, Lease, HourlyTotals,
    HourlyHistogram, DailyHistogram, HourlyKeyTotals, DailyKeyTotals,
)  # fmt: skip


def split_columns(table: type[peewee.Model]) -> tuple[list[str], list[str]]:
    """The columns of a rollup table, in order: the key, then the sums."""
    names: list[str] = table._meta.sorted_field_names
    key: Any = table._meta.primary_key  # a CompositeKey, which the stubs lack
    keys = len(key.field_names)
    return names[:keys], names[keys:]
