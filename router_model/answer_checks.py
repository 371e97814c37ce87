"""Hard checks of a finished local answer, before it is returned.

A check names a defect that the client would see, and that another model would not have. A false
alarm costs a cloud call, so a check that is unsure passes: it reads few patterns, and what the
client has set itself (its token limit, its stop sequences) is no defect.

The work is bounded: only the edges of a text are read, except to parse JSON.
"""

import json
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

from router_model.final_answer import final_answer, without_thinking
from router_model.options import Options, options_of
from router_model.schema import fits

Schema = Mapping[str, Any]


class Check(StrEnum):
    """What an answer fails, in the order of the checks."""

    EMPTY = "empty"
    UNFINISHED = "unfinished"
    CUT_OFF = "cut_off"
    REPETITION = "repetition"
    JSON = "json"
    TOOL_ARGUMENTS = "tool_arguments"
    NO_OPTION = "no_option"
    REFUSAL = "refusal"


class LocalAnswer(NamedTuple):
    """A finished answer.

    Attributes:
        tool_calls: pairs of a tool's name and its arguments as they were sent.
        refusal: the text of the answer's refusal field.
        completion_tokens: None if the server has not said.
    """

    text: str
    finish_reason: str | None
    tool_calls: tuple[tuple[str, str], ...] = ()
    refusal: str = ""
    completion_tokens: int | None = None


class Asked(NamedTuple):
    """What the client asked for.

    Attributes:
        prompt: the text of the newest user turn.
        json: whether the answer must be JSON: a JSON object, if there is no schema.
        tools: the schema of the parameters by the tool's name; None does not check tool calls.
        has_stop: whether the client gave stop sequences.
    """

    prompt: str
    max_tokens: int | None = None
    json: bool = False
    schema: Schema | None = None
    tools: Mapping[str, Schema] | None = None
    has_stop: bool = False


def failed_check(answer: LocalAnswer, asked: Asked) -> Check | None:
    """The first check that an answer fails; None if it passes all."""
    text = without_thinking(answer.text).strip()
    is_cut = answer.finish_reason == "length"
    at_own_limit = is_cut and _is_own_limit(answer, asked)
    may_be_empty = at_own_limit or asked.has_stop or answer.finish_reason == "content_filter"
    if not (text or answer.tool_calls or answer.refusal or may_be_empty):
        return Check.EMPTY
    if not answer.finish_reason:
        return Check.UNFINISHED
    if is_cut and not at_own_limit:
        return Check.CUT_OFF
    if _repeats_itself(text, asked.prompt):
        return Check.REPETITION
    if answer.finish_reason == "content_filter" or answer.refusal:
        return None
    is_whole = not at_own_limit
    if answer.tool_calls:
        is_broken = is_whole and asked.tools is not None and not _fit_tools(answer, asked.tools)
        return Check.TOOL_ARGUMENTS if is_broken else None
    if is_whole and not asked.has_stop and not _is_json_as_asked(text, asked):
        return Check.JSON
    if is_whole and _lacks_option(text, asked.prompt):
        return Check.NO_OPTION
    return Check.REFUSAL if _is_unable(text, asked.prompt) else None


def _is_own_limit(answer: LocalAnswer, asked: Asked) -> bool:
    """Whether an answer ends at the client's limit, which a server may count one token apart."""
    if asked.max_tokens is None:
        return False
    return answer.completion_tokens is None or answer.completion_tokens >= asked.max_tokens - 1


# ── Repetition ────────────────────────────────────────────────────────────────────────────────

_TAIL_CHARS: Final = 12_000
_PROBE_CHARS: Final = 24
_MAX_BLOCK_CHARS: Final = 1_000
_MAX_PERIODS: Final = 24  # distances that are tried
_MAX_REPEATS: Final = 150
_SENTENCE_LETTERS: Final = 20
_MAX_SENTENCES: Final = 12
_MAX_WORDS: Final = 120
_MIN_LOOP_CHARS: Final = 400
_CODE: Final = frozenset("<>{}=;|\\")  # a chess board has 64 equal cells
_ASKS_TO_REPEAT = re.compile(
    r"\b(?:repeat|repetitions?|repeatedly|over and over|again and again|copies|chant|mantra|refrain"
    r"|lyrics|song|ascii|pattern|filler|lorem|forever|infinite(?:ly)?|duplicate|punishment|lines of"
    r"|same (?:line|word|sentence|phrase|text))\b"
    r"|\b(?:\d+|ten|twenty|fifty|hundred|thousand) (?:times|lines|rows)\b",
    re.IGNORECASE,
)
_LINE_NUMBER = re.compile(r"\s*(?:\d{1,6}[.):]|[-*•])?\s*")


def _repeats_itself(text: str, prompt: str) -> bool:
    """Whether a text ends in a loop of one block of characters, or of one line."""
    tail = text[-_TAIL_CHARS:]
    # Labels of many items are equal lines, as many as the prompt has items.
    allowed = prompt[-_TAIL_CHARS:].count("\n") + 1
    if not (_is_loop(tail, allowed) or _has_same_lines(tail, allowed)):
        return False
    return _ASKS_TO_REPEAT.search(_edges(prompt)) is None


def _is_loop(tail: str, allowed: int) -> bool:
    """Whether the same block stands at the end many times.

    The distances of the last characters from their earlier occurrences are the possible lengths.
    """
    probe, end = tail[-_PROBE_CHARS:], len(tail)
    if len(probe) < _PROBE_CHARS:
        return False
    position = end - _PROBE_CHARS
    for _ in range(_MAX_PERIODS):
        # An occurrence may overlap the one after it.
        lowest = max(0, end - _PROBE_CHARS - _MAX_BLOCK_CHARS)
        position = tail.rfind(probe, lowest, position + _PROBE_CHARS - 1)
        if position < 0:
            return False
        size = end - _PROBE_CHARS - position
        block = tail[-size:]
        repeats = 1
        while repeats < _MAX_REPEATS and tail.endswith(block, 0, end - repeats * size):
            repeats += 1
        is_long = repeats * size >= _MIN_LOOP_CHARS
        if is_long and repeats > max(allowed, _most_repeats(block)):
            return True
    return False


def _most_repeats(block: str) -> int:
    """How often a block may stand in a row: a sentence least, what is no text most."""
    letters = [letter for letter in block.casefold() if letter.isalpha()]
    different = len(set(letters))
    # A letter of a script without spaces is about a syllable.
    is_syllabic = any(letter >= "\u2e80" for letter in letters)
    size = len(letters) * (4 if is_syllabic else 1)
    if size >= _SENTENCE_LETTERS and different >= (3 if is_syllabic else 8):
        return _MAX_WORDS if _CODE.intersection(block) else _MAX_SENTENCES
    is_word = is_syllabic or any(char.isspace() for char in block)
    return _MAX_WORDS if is_word and different >= 3 else _MAX_REPEATS


def _has_same_lines(tail: str, allowed: int) -> bool:
    """Whether the last lines are the same but for their numbers in a list."""
    lines = [line for line in tail.split("\n") if line.strip()][-_MAX_REPEATS:]
    if not lines:
        return False
    last = _LINE_NUMBER.sub("", lines[-1], count=1)
    count = 0
    for line in reversed(lines):
        if _LINE_NUMBER.sub("", line, count=1) != last:
            break
        count += 1
    is_long = count * len(last) >= _MIN_LOOP_CHARS
    return is_long and count > max(allowed, _most_repeats(last))


# ── JSON and tools ────────────────────────────────────────────────────────────────────────────


def _is_json_as_asked(text: str, asked: Asked) -> bool:
    if not asked.json and asked.schema is None:
        return True
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) if asked.schema is None else fits(value, asked.schema)


def _fit_tools(answer: LocalAnswer, tools: Mapping[str, Schema]) -> bool:
    """Whether all calls are of offered tools, with their required parameters."""
    for name, arguments in answer.tool_calls:
        if name not in tools:
            return False
        required = tools[name].get("required")
        names = required if isinstance(required, list) else []
        if not arguments.strip() and not names:
            continue  # some servers send no {}
        try:
            given = json.loads(arguments)
        except (ValueError, RecursionError):
            return False
        if not isinstance(given, dict) or any(
            name not in given for name in names if isinstance(name, str)
        ):
            return False
    return True


# ── Options ───────────────────────────────────────────────────────────────────────────────────

_EDGE_CHARS: Final = 2_000
_CONCLUSION_CHARS: Final = 800
_ASKS_FOR_OPTION = re.compile(
    r"\b(?:choose|select|pick) (?:the|one|an?|your|from|between|only|exactly)\b"
    r"|\bwhich (?:one )?of (?:the following|these|the (?:options|choices|statements))\b"
    r"|\b(?:answer|respond|reply) with (?:only )?(?:the|a|one|just|only)\b[^\n.]{0,30}\bletter\b"
    r"|\b(?:correct|best|right) (?:answer|option|choice)\b|\bmultiple[- ]choice question\b"
    r"|\bwhich (?:option|choice|answer|statement) (?:is|best|correctly)\b",
    re.IGNORECASE,
)
_ASKS_FOR_MORE = re.compile(
    r"\b(?:all that apply|more than one|two|three|each|every|all|both|rank|order|sort|match|compare"
    r"|explain (?:why|how|the (?:difference|options))|translate|rewrite|rephrase|reformat|format"
    r"|convert|summari[sz]e|proofread|improve|write|create|generate|draft|similar question|quiz"
    r"|distractors?|extract|json|csv|fix|edit|discuss|which ones"
    r"|(?:following|these|those|options|statements) are)\b",
    re.IGNORECASE,
)
_OTHER_ANSWER = re.compile(
    r"\b(?:none|neither|all|both|any|several|more than one|multiple|no) (?:of |option|choice|answer"
    r"|correct|listed|are |is )|\bnot (?:listed|among|one of|in the (?:list|options))\b"
    r"|\b(?:closest|ambiguous|depends)\b",
    re.IGNORECASE,
)
_NAMED_LETTER = re.compile(r"(?<![\w'’])(?:\(?[B-HJ-Z]\)?|\(?[AI][).:*\"]|\([AI]\))(?![\w'’])")


def _lacks_option(text: str, prompt: str) -> bool:
    """Whether a prompt asks for one of its options, and the answer's conclusion names none."""
    options = options_of(prompt)
    if not options or text.endswith("?") or not _asks_for_option(prompt, options):
        return False
    answer = final_answer(text, options=options)
    if answer is not None and answer.kind == "option":
        return False
    conclusion = f"{text[: _CONCLUSION_CHARS // 4]}\n{text[-_CONCLUSION_CHARS:]}"
    if _OTHER_ANSWER.search(conclusion):
        return False
    letters = {match[0].strip('().:*"') for match in _NAMED_LETTER.finditer(conclusion)}
    words = " ".join(conclusion.casefold().split())
    repeated = (" ".join(option.casefold().split()).rstrip(".") for option in options.values())
    return not letters.intersection(options) and not any(
        option and option[:_CONCLUSION_CHARS] in words for option in repeated
    )


def _asks_for_option(prompt: str, options: Options) -> bool:
    """Whether a prompt asks for one option, in words or as a question with options at its end."""
    text = prompt[-_EDGE_CHARS:]
    first, last = (text.rfind(options[letter]) for letter in (min(options), max(options)))
    question = text[:first].rpartition("A")[0].rstrip(" \n\t(*-") if first > 0 else text
    is_at_end = 0 < first < last and last + len(options[max(options)]) >= len(text.rstrip()) - 1
    has_shape = len(options) > 2 and is_at_end and question.endswith(("?", ":", "_"))
    asks = has_shape or _ASKS_FOR_OPTION.search(text)
    rest = question + (text[last + len(options[max(options)]) :] if last >= 0 else "")
    return bool(asks) and not _ASKS_FOR_MORE.search(rest)


# ── Refusals ──────────────────────────────────────────────────────────────────────────────────

_MAX_REFUSAL_CHARS: Final = 600
_APOLOGY: Final = (
    r"(?:(?:I['’]?m|I am) (?:really |very |so )?sorry|I apologi[sz]e|sorry|unfortunately)"
)
_MODEL: Final = (
    r"(?:as|being) an? (?:large |text-based |AI |virtual |digital |helpful |local |small ){0,3}"
    r"(?:AI|(?:AI )?language model|(?:AI |virtual |digital )?assistant|model|chatbot)"
)
_NOT_ABLE: Final = (
    r"(?:can['’]?t|cannot|can not|(?:am|['’]m) (?:currently )?(?:unable|not able) to"
    r"|(?:do not|don['’]t) have the (?:ability|capability) to|lack the ability to) "
    r"(?:currently |directly |actually |physically )?"
    r"(?:access|browse|search|open|view|see|hear|watch|visit|follow|fetch|retrieve|download|draw"
    r"|run|execute|translate|solve|perform|compute|calculate|display|play"
    r"|(?:generate|create) (?:images?|audio|files?|pictures?)|process (?:images?|audio|video)"
    r"|analy[sz]e (?:images?|the image|audio)"
    r"|provide (?:real|live|current|up|the (?:current|latest)))"
)
_NO_ACCESS: Final = (
    r"(?:do not|don['’]t) (?:currently )?have (?:direct |real-time |any )?access to "
    r"(?:real|live|current|up|the (?:internet|web|current|latest)|external|internet|your|files)"
)
_UNABLE = re.compile(
    rf"(?:{_APOLOGY}[,.;:]? (?:but )?)?(?:{_MODEL},? )?(?:and )?I ?(?:{_NOT_ABLE}|{_NO_ACCESS})",
    re.IGNORECASE,
)
# Another model would refuse these as well, or they are no refusal.
_NOT_INABILITY = re.compile(
    r"\b(?:harm|illegal|unethical|unsafe|danger|weapon|violen|explicit|hate|medical|legal|financial"
    r"|opinion|feel|emotion|personal|private|condone|promot|encourag|inappropriate|malware"
    r"|hack|policy|policies|guidelines|copyright|consent)\w*",
    re.IGNORECASE,
)
# Behind the refusal: an answer all the same.
_STILL_ANSWERS = re.compile(
    r"\b(?:as of|here(?:['’]s| is| are)|based on|typically|generally|usually|on average|instead, "
    r"here|but (?:I can|the|it|based)|however, (?:I can|the|it|based)|for example)\b"
    r"|```|\d|\n\s*[-*•]",
    re.IGNORECASE,
)
_ASKS_FOR_SUCH_TEXT = re.compile(
    r"\b(?:translate|rewrite|rephrase|paraphrase|proofread|correct (?:the|this)|repeat|pretend"
    r"|role-?play|act as|say|quote|language model|chatbot|an? AI|assistants?|refus\w*|apolog\w+"
    r"|sentence|dialog(?:ue)?|story|(?:write|draft|compose)\b[^\n.]{0,60}\b(?:reply|response|e-?mail"
    r"|message|letter|note|line))\b",
    re.IGNORECASE,
)


def _is_unable(text: str, prompt: str) -> bool:
    """Whether a short answer only says that a model is not able to do what was asked."""
    if len(text) > _MAX_REFUSAL_CHARS:
        return False
    refusal = _UNABLE.match(text)
    if refusal is None or _NOT_INABILITY.search(text):
        return False
    if _STILL_ANSWERS.search(text, refusal.end()):
        return False
    return not (_ASKS_FOR_SUCH_TEXT.search(edges := _edges(prompt)) or _NOT_INABILITY.search(edges))


def _edges(prompt: str) -> str:
    if len(prompt) <= 2 * _EDGE_CHARS:
        return prompt
    return f"{prompt[:_EDGE_CHARS]}\n{prompt[-_EDGE_CHARS:]}"
