"""A proxy's SQLite database: requests that a judge scored for both tiers.

Tables:
    requests: id, category, prompt, response, target, session_id.
    judgements: request_id, target ("local" or "cloud"), score (1-10), judge_model.

A request becomes a row if both targets have a score. The scores of several judges are averaged.
Requests of one conversation share a group, because each contains the earlier ones. Requests whose
prompt is hashed or not stored (storage.prompts) are skipped.
"""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from router_model.label import soft_label
from router_model.split import group_of
from router_model.task import routing_text
from training.dataset import CLOUD_HEAD, LOCAL_HEAD, DataError, Row

KIND = "proxy-db"
LAYOUT = "*.db or *.sqlite (a proxy's database with judgements)"
SOURCE = "proxy"

_NEEDED = {
    "requests": {"id", "category", "prompt", "response", "target", "session_id"},
    "judgements": {"request_id", "target", "score", "judge_model"},
}
_HASH = re.compile(r"[0-9a-f]{64}")
_QUERY = """
select r.id, r.category, r.prompt, r.response, r.target, r.session_id,
       avg(case when j.target = 'local' then j.score end),
       avg(case when j.target = 'cloud' then j.score end),
       min(j.score), max(j.score)
from requests r join judgements j on j.request_id = r.id
group by r.id
order by r.id
"""


class _Turn(msgspec.Struct):
    role: str
    content: str


def find(folder: Path) -> list[Path]:
    """The databases of a data folder."""
    return sorted(path for path in folder.iterdir() if path.suffix in {".db", ".sqlite"})


def files(database: Path) -> list[Path]:
    """The database and its write-ahead log."""
    log = database.with_name(database.name + "-wal")
    return [database, log] if log.exists() else [database]


def rows(database: Path) -> Iterator[Row]:
    """The judged requests. Raises DataError, which names the missing table, column or score."""
    try:
        with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as link:
            _check(link, database)
            records = link.execute(_QUERY).fetchall()
    except sqlite3.DatabaseError as error:
        raise DataError(f"{database}: {error}") from error
    usable = unreadable = 0
    for key, category, prompt, response, target, session, local, cloud, low, high in records:
        where = f"{database}: request {key}"
        if not 1 <= low <= high <= 10:
            raise DataError(f"{where}: a judgement's score is not within 1..10")
        if local is None or cloud is None:
            continue
        if prompt is None or _HASH.fullmatch(prompt):
            unreadable += 1
            continue
        try:
            turns = msgspec.json.decode(prompt, type=list[_Turn])
        except msgspec.DecodeError as error:
            raise DataError(f"{where}: prompt: {error}") from error
        text = routing_text([(turn.role, turn.content) for turn in turns])
        if not text:
            continue
        usable += 1
        length = len(response) if response is not None else None
        yield Row(
            id=f"{SOURCE}/{key}",
            source=SOURCE,
            category=category or "uncategorised",
            text=text,
            group=group_of(session, text),
            outcomes={LOCAL_HEAD: soft_label(local), CLOUD_HEAD: soft_label(cloud)},
            local_score=local,
            cloud_score=cloud,
            prompt_chars=sum(len(turn.content) for turn in turns),
            local_response_chars=length if target == "local" else None,
            cloud_response_chars=length if target == "cloud" else None,
            licence="own traffic",
        )
    if not usable:
        why = (
            f" ({unreadable} have no readable prompt: storage.prompts must be full)"
            if unreadable
            else ""
        )
        raise DataError(f"{database}: no request has a judgement of both targets{why}")


def _check(link: sqlite3.Connection, database: Path) -> None:
    for table, needed in _NEEDED.items():
        present = {row[1] for row in link.execute(f"pragma table_info({table})")}
        if not present:
            hint = " (let the judge run first)" if table == "judgements" else ""
            raise DataError(f"{database}: there is no table {table}{hint}")
        if missing := needed - present:
            raise DataError(f"{database}: table {table} lacks {', '.join(sorted(missing))}")
