"""The tables, as peewee sees them: what the columns mean. `migrations` makes them.

Times are UNIX seconds, durations milliseconds, money USD. Null means not known or not applicable:
a rejected request has no target.
"""

from typing import Any, Final

import peewee


class Request(peewee.Model):
    """One request: what was asked, what was decided and why, what it took and cost."""

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
    client_key_hash = peewee.TextField(null=True)
    error = peewee.TextField(null=True)
    error_code = peewee.TextField(null=True)
    # How probable the chosen tier was: 1 where nothing but the score decided.
    propensity = peewee.DoubleField(null=True)
    candidate_score = peewee.DoubleField(null=True)  # what `routing.candidate` would have said

    class Meta:
        table_name = "requests"


class Judgement(peewee.Model):
    """What a judge gave one answer to a request: the one the client got, or the other tier's.

    `score` is 1-10 by router_model.rubric; `model` is who answered.
    """

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
    """A request that was drawn to be judged, and how far that is.

    `kind` is grade (the answer that the client got is graded) or pair (the other tier answers,
    too, and both answers are graded and compared). `propensity`: with what probability a request
    like it was drawn as this kind, known before it was. `turn` is a random number: the order in
    which samples have their turn, so that a budget that ends early leaves no hour out. `state` is
    pending, done or refused (`why`). `body` is the request as it was sent, for the other tier;
    it goes when the sample is done. A sample is `claimed_by` one judge until `next_at`.
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

    class Meta:
        table_name = "samples"


class Preference(peewee.Model):
    """Which of a request's two answers a judge found better: local, cloud or tie.

    `verdict` is what remains of the two times it was asked, with the answers in both orders.
    """

    request_id = peewee.TextField()
    created_at = peewee.DoubleField()
    judge_model = peewee.TextField()
    verdict = peewee.TextField()
    first = peewee.TextField()
    swapped = peewee.TextField()

    class Meta:
        table_name = "preferences"


class Expense(peewee.Model):
    """Dollars for a call that no client made. `purpose` is judge or shadow.

    Written before the call with the most that it can cost; settled with what it did.
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
    """An answer of the Responses API that a client may continue: who made it, and for whom.

    `items` (input and output as JSON, of which the first `input_items` are input) and `body` are
    kept of the local tier's, which remembers nothing itself.
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
    """What a client thought of an answer: -1 to 1. The last word on a request stands."""

    request_id = peewee.TextField(primary_key=True)
    created_at = peewee.DoubleField()
    rating = peewee.DoubleField()
    comment = peewee.TextField(null=True)

    class Meta:
        table_name = "feedback"


class Job(peewee.Model):
    """A step of the pipeline that somebody started: how far it is, or how it ended.

    `state` is running, done, failed, cancelled or interrupted (whoever ran it is gone or was
    stopped). At most one is running. `worker` names the process that runs it, which says that it
    lives by `seen_at`. `arguments` are what was chosen, as JSON. `log` is the end of what was
    printed, `log_start` how many characters were before it. `progress` is of what `message` names.
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
    is_unwanted = peewee.BooleanField()  # somebody asked for its end
    progress = peewee.DoubleField(null=True)
    message = peewee.TextField(null=True)
    log = peewee.TextField()
    log_start = peewee.BigIntegerField()
    cost_usd = peewee.DoubleField(null=True)

    class Meta:
        table_name = "jobs"


class TokenBucket(peewee.Model):
    """A key's requests of the minute, of all processes: when all of them are free again."""

    key_hash = peewee.TextField(primary_key=True)
    full_at = peewee.DoubleField()

    class Meta:
        table_name = "rates"


class Lease(peewee.Model):
    """What one process may have spent of a day's dollars: what it has, and what it may yet.

    `name` is the hash of the key whose dollars they are, or empty: everybody's. `day` counts from
    1970. `holder` names one life of a process; its row stays when it has ended.
    """

    day = peewee.BigIntegerField()
    name = peewee.TextField()
    holder = peewee.TextField()
    usd = peewee.DoubleField()

    class Meta:
        table_name = "leases"
        primary_key = peewee.CompositeKey("day", "name", "holder")


class HourlyTotals(peewee.Model):
    """Sums over the requests of one hour (UTC) that are alike in everything but their numbers.

    Added to in the transaction that writes the rows, so that a question about a million requests
    is answered from some thousand rows; what retention deletes stays counted here. Text that a
    request does not have is empty. Money is in picodollars, so that sums are exact.
    """

    hour = peewee.BigIntegerField()  # its beginning
    endpoint = peewee.TextField()
    target = peewee.TextField()
    model = peewee.TextField()
    reason = peewee.TextField()
    ending = peewee.TextField()
    category = peewee.TextField()
    requests = peewee.BigIntegerField()
    streamed = peewee.BigIntegerField()
    fallbacks = peewee.BigIntegerField()
    estimated = peewee.BigIntegerField()  # whose tokens no upstream reported
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
    """How a measure of one hour's requests is spread: how many of them are in each bucket.

    `rollup` says which measures there are, and what a bucket is. `cloud_cost_pico`: what the cloud
    costs or would have cost for those in the bucket.
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
    """The same of whole days (UTC): what is asked of a month need not read all its hours."""

    day = peewee.BigIntegerField()  # its beginning
    measure = peewee.TextField()
    target = peewee.TextField()
    bucket = peewee.IntegerField()
    requests = peewee.BigIntegerField()
    cloud_cost_pico = peewee.BigIntegerField()

    class Meta:
        table_name = "day_spreads"
        primary_key = peewee.CompositeKey("day", "measure", "target", "bucket")


TABLES: Final = (
    Request, Judgement, Sample, Preference, Expense, Response, Feedback, Job, TokenBucket, Lease,
    HourlyTotals, HourlyHistogram, DailyHistogram,
)  # fmt: skip


def split_columns(table: type[peewee.Model]) -> tuple[list[str], list[str]]:
    """The columns of a table of sums, in order: its key, which comes first, and the sums."""
    names: list[str] = table._meta.sorted_field_names
    key: Any = table._meta.primary_key  # a CompositeKey, of which the stubs know nothing
    keys = len(key.field_names)
    return names[:keys], names[keys:]
