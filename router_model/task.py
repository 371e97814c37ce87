"""The routing text: which text of a conversation is scored, in serving and in training.

It is the task of the newest user turn, without what clients, frameworks and front ends put around
it. A bare question is its own routing text.

- System prompts are left out. All requests of an application share one, so it shifts every score
  alike and hides the differences. If the user only says "go", the system prompt holds the task.
- A short last turn ("and in Rust?") is a follow-up; the task is earlier. The newest and the longest
  of the earlier user turns are put in front of it. A hard conversation stays hard. "Thanks" asks
  nothing, so it stands alone.
- Assistant and tool turns are left out. They describe what a model did, not what is asked, and a
  tool result can be a megabyte of logs. Of an agent's rounds only number and size are named.
- Context in tags, canned turns, and the frames of retrieval and of agents are left out. Pasted
  material is shortened, and the question with it is not.

The work is bounded: turns and characters beyond the limits below are not read.

Unknown: how well this works on conversations. There were no multi-turn outcomes to train on.
"""

import re
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from router_model.features import HEAD_CHARS, TAIL_CHARS, clip

ScoreSystem = Literal["auto", "never", "always"]
Turns = Sequence[tuple[str, str]]

SHORT_FOLLOW_UP_CHARS: Final = 120
EARLIER_TURNS_CHARS: Final = 1200
MAX_EARLIER_TURNS: Final = 4
SYSTEM_CHARS: Final = 1200
# Of the pasted or retrieved material. The model reads few tokens, and the question needs them.
MATERIAL_CHARS: Final = 240

_MAX_TURNS: Final = 2_000
_MAX_USER_TURNS: Final = 40
_MAX_SYSTEM_TURNS: Final = 10
_SPACE_CHARS: Final = 4_096  # white space is looked for in steps of so many
_READ_CHARS: Final = (6_000, 4_000)  # of the newest turn: at its start and at its end
_READ_EARLIER_CHARS: Final = (1_500, 500)
_MAX_EXTRACTED: Final = 8  # turns whose task is extracted
_MAX_TAGS: Final = 16
_MIN_FENCED_CHARS: Final = 1_000
_MIN_FRAME_CHARS: Final = 150
_PARAGRAPH_CHARS: Final = 600
_MIN_MATERIAL_CHARS: Final = 400
_GAP: Final = "\n…\n"


def routing_text(turns: Turns, *, score_system: ScoreSystem = "auto") -> str:
    """The text to score for a conversation of (role, text) pairs, oldest first.

    Args:
        score_system: whether the system prompt's text is added: to every text, to none, or only
            where the user's turns have no content ("go", ".", nothing).

    Returns:
        At most about 2,300 characters. Empty if there is no text to score.
    """
    task, has_content = _user_text(turns)
    if score_system == "always" or (score_system == "auto" and not has_content):
        system = _system_text(turns)
        return clip("\n".join(part for part in (system, task) if part))
    return clip(task)


def is_small_talk(turns: Turns) -> bool:
    """Whether the newest user turn only thanks, greets or acknowledges."""
    users, _, result = _read(turns)
    if not users or result is not None:
        return False
    last, _, _ = _last_turn(users)
    return _kind_of(_task_of(users[last].text), users[last].asked) is _SMALL_TALK


def new_chars(turns: Turns) -> int:
    """The characters of what is new in a request: the turns since the last answer.

    Clients send instructions, tools and earlier turns again with every request, and providers bill
    a repeated prefix at a reduced price. So these are no cost of the one answer, and neither is the
    context that a client puts around the task.
    """
    size = users = 0
    for role, text in reversed(turns):
        if role == "assistant" and size:
            break
        if role == "user" and users < _MAX_EXTRACTED:
            whole = text if users else _without_reminder(text, turns)
            read = _window(whole)
            size += len(whole) - len(read) + len(_without_context(read))
            users += 1
        elif role not in ("assistant", "system", "developer"):
            size += len(text)
    return size


class _UserTurn(NamedTuple):
    """A user's turn as it was sent.

    Attributes:
        asked: the assistant's turn before it; None if there is none.
        answer: the assistant's turn after it, if it is the only turn before the user's next one.
    """

    text: str
    asked: str | None
    answer: str | None


def _user_text(turns: Turns) -> tuple[str, bool]:
    """The text of the user's turns, and whether it has content."""
    users, rounds, result = _read(turns)
    last, earlier, observations = _last_turn(users)
    text = _task_of(users[last].text) if users else ""
    if result is None and observations:
        result = observations[0].text
    note = _agent_note(rounds + len(observations), result)
    kind = _kind_of(text, users[last].asked if users else None)
    if kind is _SMALL_TALK or (kind is _CONTENT and len(text) >= SHORT_FOLLOW_UP_CHARS):
        return text + note, True
    chosen = _earlier_tasks(users[earlier:], newest=text)
    has_content = kind is _CONTENT or bool(chosen)
    return "\n".join([*chosen, text]).strip() + note, has_content


def _read(turns: Turns) -> tuple[list[_UserTurn], int, str | None]:
    """The user turns, newest first; the rounds of tools after them; the newest tool result."""
    users: list[_UserTurn] = []
    rounds, result = 0, None
    following: list[str] = []  # the turns between the user's turn and the user's next one
    for index in range(len(turns) - 1, max(-1, len(turns) - 1 - _MAX_TURNS), -1):
        role, text = turns[index]
        if role == "user":
            if not users:
                text = _without_reminder(text, turns)
            if not _window(text):
                continue
            asked = turns[index - 1][1] if index and turns[index - 1][0] == "assistant" else None
            users.append(_UserTurn(text, asked, following[0] if len(following) == 1 else None))
            following = []
            if len(users) == _MAX_USER_TURNS:
                break
        elif role in ("tool", "function"):
            following.append("")
            if not users:
                rounds += turns[index - 1][0] not in ("tool", "function")
                result = text if result is None else result
        elif role == "assistant":
            following.append(text)
    return users, rounds, result


def _last_turn(users: list[_UserTurn]) -> tuple[int, int, list[_UserTurn]]:
    """The index of the newest turn of a person, the next one's, and the observations after it."""
    observations = []
    for index, turn in enumerate(users):
        if _is_observation(turn):
            observations.append(turn)
        elif index - len(observations) == _MAX_EXTRACTED:
            break
        elif _without_context(_window(turn.text)).strip():
            return index, index + 1, observations
    return 0, len(users), []


def _earlier_tasks(users: list[_UserTurn], *, newest: str) -> list[str]:
    """The tasks of earlier turns, oldest first.

    Canned turns count if there are no others and the newest turn says little without them.
    """
    turns, canned = [], []
    for turn in users:
        if _is_canned(turn):
            canned.append(turn)
            if _RESET.search(turn.text[:_PARAGRAPH_CHARS]):
                break
        elif not _is_observation(turn) and _kind_of(turn.text, turn.asked) is _CONTENT:
            turns.append(turn)
    return _choose(turns) or (_choose(canned) if len(newest.split()) < 3 else [])


def _choose(turns: list[_UserTurn]) -> list[str]:
    """The tasks of the newest turn and of the longest others within the budget, oldest first."""
    ranked = sorted(
        range(1, len(turns)), key=lambda index: (-min(len(turns[index].text), 600) // 100, index)
    )
    tasks: dict[int, str] = {}
    for index in [0, *ranked][: min(_MAX_EXTRACTED, len(turns))]:
        task = _task_of(turns[index].text, context="drop")
        if task and _kind_of(task, turns[index].asked) is _CONTENT:
            tasks[index] = task
            if len(tasks) == MAX_EARLIER_TURNS:
                break
    # Of a turn that exceeds the budget the start is used: it usually has the task.
    most = EARLIER_TURNS_CHARS if len(tasks) == 1 else EARLIER_TURNS_CHARS // 2
    budget, parts = EARLIER_TURNS_CHARS, {}
    for index, task in tasks.items():
        parts[index] = task[: min(budget, most)]
        budget -= len(parts[index]) + 1
        if budget <= 0:
            break
    return [parts[index] for index in sorted(parts, reverse=True)]


def _system_text(turns: Turns) -> str:
    """The start of the system prompt."""
    for role, text in turns[:_MAX_SYSTEM_TURNS]:
        if role in ("system", "developer") and (system := _window(text)):
            return system[:SYSTEM_CHARS]
    return ""


# ── Turns that are not a task ─────────────────────────────────────────────────────────────────

_CONTENT, _GO_ON, _SMALL_TALK = "content", "go on", "small talk"
_MAX_SMALL_TALK_CHARS: Final = 100
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
_GO = frozenset(
    "go continue proceed yes yep yeah yup y do next start begin run keep resume more finish carry "
    "try sure weiter ja mach oui continue continuez sí si sigue continúa sim continua да продолжай "
    "дальше 继续 是 好的 開始 开始 続けて はい 계속 네".split()
)
_THANKS = frozenset(
    "thanks thank thx ty cheers ok okay k great nice perfect awesome cool amazing excellent lovely "
    "brilliant wonderful good fine wow lol haha understood bye goodbye hi hello hey danke super "
    "merci gracias obrigado obrigada grazie спасибо 谢谢 谢谢你 多谢 ありがとう 감사합니다".split()
)
_FILLERS = frozenset(
    "you so much very a lot for your the help that it this is was all helped helps helpful works "
    "worked work got now i see again explanation answer have day well done really explaining and "
    "to me on please then ahead let's lets going with them just right away rest of one job there "
    "that's it's dank schön vielen beaucoup muchas bitte".split()
)


def _kind_of(text: str, asked: str | None) -> str:
    """Whether a turn has content, goes on with the task before it, or is small talk.

    "Ok" goes on if the assistant has asked.
    """
    if len(text) > _MAX_SMALL_TALK_CHARS:
        return _CONTENT
    goes_on = thanks = is_ok = False
    for match in _WORD.finditer(text):
        word = match[0].lower()
        if word in _GO:
            goes_on = True
        elif word in _THANKS:
            thanks = thanks or word.startswith("than")
            is_ok = True
        elif word not in _FILLERS:
            return _CONTENT
    if goes_on or _PUNCTUATION.issuperset(text):
        return _GO_ON
    if not is_ok:
        return _CONTENT
    is_answer = not thanks and asked is not None and asked[-100:].rstrip()[-1:] in _QUESTION_MARKS
    return _GO_ON if is_answer else _SMALL_TALK


_QUESTION_MARKS: Final = frozenset("?？؟")
_PUNCTUATION: Final = frozenset(" \t\r\n.,;:!?…-_*#~/\\|'\"`()[]{}<>+=。！？、，")

_OBSERVATION = re.compile(
    r"[\s#*>\[(]*(?:observations?\b|(?:tool|function|action)[ _-](?:results?|outputs?|responses?)\b"
    r"|<(?:tool|function)[ _-]?(?:results?|responses?|outputs?)>)",
    re.IGNORECASE,
)
_OUTPUT = re.compile(
    r"[\s#*>\[(<]*(?:(?:command|execution|code|shell|terminal|last)[ _-])?"
    r"(?:results?|outputs?|stdout|stderr|exit[ _-]?code|returncode)\b[^\n:>]{0,60}[:>]",
    re.IGNORECASE,
)
_ACTION = re.compile(
    r"(?:^|\n)[\s*#]*Action(?:[ _]Input)?[*\s]{0,3}:|<(?:tool|function|invoke)", re.IGNORECASE
)


def _is_observation(turn: _UserTurn) -> bool:
    """Whether a user turn is a tool's result that an agent without tool turns has sent."""
    if turn.asked is None:
        return False
    label = _OBSERVATION.match(turn.text, 0, 200) or _OUTPUT.match(turn.text, 0, 200)
    if label is None:
        return False
    asked = turn.asked[-2_000:]
    if _ACTION.search(asked):
        return True
    # "Output: is wrong. Rewrite it." is a person's answer to code.
    rest = turn.text[label.end() : label.end() + 200].partition("\n")[0]
    return "```" in asked and not rest.strip(" \t*:>")


_ACKNOWLEDGED = re.compile(
    r"\W*(?:ok|okay|got it|understood|sure|noted|thanks|thank you|i understand|acknowledged|ready"
    r"|alright|all right|i see)\b",
    re.IGNORECASE,
)
_SETUP = re.compile(
    r"\b(?:context|setting up|set-?up|files?|documents?|repo(?:sitory)?|code ?base|project|folder"
    r"|workspace|environment|examples?|above|background)\b",
    re.IGNORECASE,
)
_RESET = re.compile(
    r"\b(?:don't|do not|no longer|never) \w+ (?:the )?above|\b(?:ignore|forget|disregard) "
    r"(?:the |all |everything )*(?:above|previous|earlier)",
    re.IGNORECASE,
)
_MAX_ACKNOWLEDGEMENT_CHARS: Final = 120


def _is_canned(turn: _UserTurn) -> bool:
    """Whether a turn only sets the conversation up: its answer acknowledges it and says no more."""
    answer = turn.answer
    return (
        answer is not None
        and 0 < len(answer) <= _MAX_ACKNOWLEDGEMENT_CHARS
        and "?" not in answer
        and not turn.text.rstrip().endswith("?")
        and bool(_ACKNOWLEDGED.match(answer) and _SETUP.search(turn.text[:_PARAGRAPH_CHARS]))
    )


_ERROR = re.compile(r"\b(?:error|exception|traceback|failed|fatal)\b", re.IGNORECASE)


def _agent_note(rounds: int, result: str | None) -> str:
    """An agent's rounds and the newest tool result in a few words.

    In steps, so that the texts of a task's rounds are few: scores are cached by text.
    """
    if result is None:
        return ""
    size = "short" if len(result) < 500 else "long" if len(result) < 5_000 else "very long"
    sample = result[:500] + "\n" + result[-500:]
    kind = "error" if _ERROR.search(sample) else "data" if result[:1] in ("{", "[") else "text"
    many = "" if rounds <= 3 else "Several rounds. " if rounds <= 10 else "Many rounds. "
    return f"\n{many}Tool result: {size} {kind}."


# ── The task in a turn ────────────────────────────────────────────────────────────────────────


def _task_of(text: str, *, context: Literal["keep", "drop"] = "keep") -> str:
    """A turn's task: without context in tags and frames, with pasted material shortened.

    Args:
        context: what becomes of a turn that is nothing but context.
    """
    text = _window(text, _READ_CHARS if context == "keep" else _READ_EARLIER_CHARS)
    if text.startswith(_FIELD_START):
        text = _values_of_fields(text)
    if "<" in text:
        bare = _without_context(text).strip()
        if bare or context == "drop":
            text = bare
    if len(text) > _MIN_FRAME_CHARS:
        if text.startswith(_CREW_TASK):
            text = text.removeprefix(_CREW_TASK).partition(_CREW_CRITERIA)[0].strip() or text
        text = _question_of_frame(text)
        text = _shorten_material(text)
    return text


def _window(text: str, chars: tuple[int, int] = _READ_CHARS) -> str:
    """The part of a turn that is read."""
    start, end = _stripped_span(text)
    if end - start <= sum(chars):
        return text[start:end]
    return text[start : start + chars[0]] + _GAP + text[end - chars[1] : end]


def _stripped_span(text: str) -> tuple[int, int]:
    """Where `text.strip()` begins and ends in a text, without a copy of it."""
    start, end = 0, len(text)
    while text[start : start + _SPACE_CHARS].isspace():
        start += _SPACE_CHARS
    while end > start and text[max(start, end - _SPACE_CHARS) : end].isspace():
        end -= _SPACE_CHARS
    if end <= start:
        return 0, 0
    first, last = text[start : start + _SPACE_CHARS], text[max(0, end - _SPACE_CHARS) : end]
    return start + len(first) - len(first.lstrip()), end - len(last) + len(last.rstrip())


def _without_reminder(text: str, turns: Turns) -> str:
    """A turn without instructions at its end that the system prompt repeats, as aider's has."""
    for role, system in turns[:_MAX_SYSTEM_TURNS]:
        if role in ("system", "developer") and len(text) > _MIN_FRAME_CHARS:
            end = _stripped_span(text)[1]
            start = end - _common_end(text, end, system, _stripped_span(system)[1])
            if start and text[start - 1] != "\n":  # the rest of a line is none of it
                line_end = text.find("\n", start, end)
                start = line_end if line_end >= 0 else end
            if end - start >= _MIN_FRAME_CHARS and (bare := text[:start].rstrip()):
                return bare
    return text


def _common_end(text: str, end: int, other: str, other_end: int) -> int:
    """The number of characters that two texts share before these places, up to a limit."""
    low, high = 0, min(end, other_end, sum(_READ_CHARS))
    while low < high:
        middle = (low + high + 1) // 2
        if text.endswith(other[other_end - middle : other_end], 0, end):
            low = middle
        else:
            high = middle - 1
    return low


# DSPy's adapters mark the fields of a request like this, and then ask for the fields of the answer.
_FIELD_START: Final = "[[ ## "
_FIELD = re.compile(r"^\[\[ ## (\w{1,60}) ## \]\][ \t]*$", re.MULTILINE)
_FIELDS_END = re.compile(
    r"\n\s*Respond with (?:the corresponding output fields|a JSON object)\b[^\n]*\Z"
)


def _values_of_fields(text: str) -> str:
    """The values of the marked fields, the start of context first."""
    end = _FIELDS_END.search(text)
    _, *parts = _FIELD.split(text[: end.start()] if end else text)
    values: list[str] = []
    for name, value in zip(parts[::2], parts[1::2], strict=True):
        if _is_context(name):
            values.insert(0, _start(value.strip()))
        else:
            values.append(value.strip())
    return "\n".join(value for value in values if value) or text


# CrewAI puts a task between these.
_CREW_TASK: Final = "Current Task:"
_CREW_CRITERIA: Final = "\nThis is the expected criteria for your final answer:"

_TAG = re.compile(
    r"^[ \t]*<([A-Za-z][A-Za-z0-9]*(?:[_-][A-Za-z0-9]+)*)(?: [^<>\n]{0,200})?>", re.MULTILINE
)
_NAME_PART = re.compile(r"[_-]")
_CONTEXT_NAMES = frozenset(
    "context environment reminder memory memories rules documents document files attachments "
    "history background guidelines".split()
)
_CONTEXT_ENDS = _CONTEXT_NAMES | frozenset(
    "instructions info information details state data file settings metadata preferences".split()
)
_CONTEXT_STARTS = frozenset("system environment workspace session editor ide attached".split())
_TASK_ENDS = frozenset("task query question request goal".split())
_FRAME_WORDS = re.compile(
    r"\b(?:context|documents?|passages?|sources?|excerpts?|information|tools?|articles?|snippets?"
    r"|search results|knowledge)\b",
    re.IGNORECASE,
)


def _is_context(name: str) -> bool:
    """Whether a tag's name means context. `<INSTRUCTIONS>` in capitals comes from clients."""
    parts = _NAME_PART.split(name.lower())
    if len(parts) == 1:
        return parts[0] in _CONTEXT_NAMES or name == "INSTRUCTIONS"
    return parts[-1] in _CONTEXT_ENDS or parts[0] in _CONTEXT_STARTS


def _is_task(name: str) -> bool:
    return _NAME_PART.split(name.lower())[-1] in _TASK_ENDS


def _without_context(text: str) -> str:
    """The text without context in tags, or the task in tags. Other tags stay."""
    if "<" not in text:
        return text
    parts, position = [], 0
    for _ in range(_MAX_TAGS):
        match = _TAG.search(text, position)
        if match is None:
            break
        name = match[1]
        is_task = _is_task(name)
        end = text.find(f"</{name}>", match.end()) if is_task or _is_context(name) else -1
        if end < 0:
            parts.append(text[position : match.end()])
            position = match.end()
            continue
        before = "".join(parts) + text[position : match.start()]
        position = end + len(name) + 3
        if is_task:
            task, after = text[match.end() : end].strip(), text[position:].strip()
            is_framed = not before.strip() or (
                len(before) >= _MIN_FRAME_CHARS and _FRAME_WORDS.search(before[:2_000])
            )
            if task and is_framed and not _without_context(after).strip():
                return task
            parts = [before, text[match.start() : position]]
            continue
        # An instruction about the context is a frame; the question follows.
        is_frame = len(before) >= _MIN_FRAME_CHARS and _FRAME_WORDS.search(before)
        after = text[position:].strip()
        if is_frame and after and not _TAG.search(after):
            return _start(text[match.end() : end].strip()) + "\n" + after
        title = before.rstrip().rpartition("\n")[2]
        if title.startswith("#"):
            before = before.rstrip().removesuffix(title)
        parts = [before]
    return "".join(parts) + text[position:]


_QUESTION = re.compile(
    r"^[ \t>*#_-]{0,8}(?:(?:user|human|final|current|actual|new|follow[- ]?up)(?:'s)?[ _-])?"
    r"(?:question|query|request)[*_ ]{0,4}:[*_ \t]*",
    re.IGNORECASE | re.MULTILINE,
)
_QUESTION_LABELS: Final = ("question", "query", "request")
_AFTER_QUESTION = re.compile(
    r"^[ \t>*#_-]{0,8}(?:thought|action|observation|context|documents?|sources?|passages?"
    r"|(?:\w{1,12} )?(?:answer|response|output))\b[^\n:]{0,30}:",
    re.IGNORECASE | re.MULTILINE,
)

_ACTION_LABEL = re.compile(r"^[ \t*]{0,4}(?:Action|Thought)\b", re.MULTILINE)
_MATERIAL = re.compile(
    r"^[ \t>*#_-]{0,8}(?:context|documents?|sources?|passages?|excerpts?|articles?|information"
    r"|search results)\b[^\n:]{0,30}:[*_]*",
    re.IGNORECASE | re.MULTILINE,
)


def _question_of_frame(text: str) -> str:
    """The last labelled question of a frame with context or tools, and the start of its material.

    A few examples ahead are a frame, too: the last question is the real one.
    """
    lower = text.lower()
    if not any(word in lower for word in _QUESTION_LABELS):
        return text
    matches = [*_QUESTION.finditer(text)]
    if not matches:
        return text
    match = matches[-1]
    end = _AFTER_QUESTION.search(text, match.end())
    question = text[match.end() : end.start() if end else len(text)].strip()
    before = text[: match.start()].strip()
    rest = (
        before if len(before) >= _MIN_FRAME_CHARS else text[match.end() + len(question) :].strip()
    )
    if len(question) < 8 or len(rest) < _MIN_FRAME_CHARS or not _FRAME_WORDS.search(rest[:2_000]):
        return text
    if _ACTION_LABEL.search(rest):
        return question  # an agent's tools are no material
    label = _MATERIAL.search(rest)
    material = rest[label.end() :] if label else rest.partition("\n\n")[2]
    return "\n".join(part for part in (_start(material.strip()), question) if part)


_FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_QUESTION_ENDS: Final = ("?", "？", "؟", ":", "：")


def _shorten_material(text: str) -> str:
    """A long turn with its question whole and the pasted material shortened.

    The question is the first or the last paragraph, whichever is prose or ends as a question does.
    """
    if len(text) >= _MIN_FENCED_CHARS and "```" in text:
        outside = _FENCE.sub("", text)
        if len(outside.strip()) >= 8:
            text = _FENCE.sub(lambda match: _start(match[0]), text)
    if len(text) <= HEAD_CHARS + TAIL_CHARS:
        head, _, rest = text.partition("\n\n")
        is_material = len(rest) >= _MIN_MATERIAL_CHARS and "?" not in rest and _is_prose(rest)
        is_asked = len(head) <= _PARAGRAPH_CHARS and head.endswith((":", "："))
        return f"{head}\n{_start(rest)}" if is_material and is_asked else text
    head, tail = _edge(text[:_PARAGRAPH_CHARS], first=True), _edge(text[-_PARAGRAPH_CHARS:])
    if head and tail:
        asks = [part.endswith(_QUESTION_ENDS) for part in (head, tail)]
        head, tail = (
            (head if asks[0] or not asks[1] else ""),
            (tail if asks[1] or not asks[0] else ""),
        )
    if not head and not tail:
        return text
    material = text[len(head) :].strip() if head else text
    return "\n".join(part for part in (head, _start(material), tail) if part)


def _start(material: str) -> str:
    return material if len(material) <= MATERIAL_CHARS else material[:MATERIAL_CHARS] + "…"


def _edge(text: str, *, first: bool = False) -> str:
    """The paragraph, or else the line, at the edge of a text; empty if it is not prose."""
    for separator in ("\n\n", "```", "\n"):
        before, found, after = text.partition(separator) if first else text.rpartition(separator)
        edge = (before if first else after).strip()
        if found and edge and _is_prose(edge):
            return edge
    return ""


_SIGN = re.compile(r"[^\w\s]|[\d_]")


def _is_prose(text: str) -> bool:
    """Whether a text reads like language: letters and spaces, and few digits and signs."""
    return len(_SIGN.findall(text)) <= 0.15 * len(text) + 2
