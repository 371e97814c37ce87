"""Whether an answer names none of the options that a prompt asks to choose from.

A list with letters is mostly none of a multiple-choice question: it has tasks, terms or plans.
Only a prompt in English counts that says to choose, or whose options stand at its end behind a
question for one thing. An answer names an option by its letter, its place, or a word of its own.
"""

import re
from collections import Counter
from typing import Final

from router_model.final_answer import final_answer
from router_model.options import Options, options_of

_EDGE_CHARS: Final = 2_000
_CONCLUSION_CHARS: Final = 800
_ASKS_FOR_OPTION = re.compile(
    r"\b(?:choose|select|pick) (?:(?:only |exactly |just )?one\b|(?:from|between) (?:the|these|one)"
    r"|(?:the|an?|your) (?:\w+ ){0,3}(?:answer|option|choice|letter|alternative|statement|response"
    r"|one)\b)"
    r"|\bwhich (?:one )?of (?:the following|these|the (?:options|choices|statements))\b"
    r"|\b(?:answer|respond|reply) with (?:only )?(?:the|a|one|just|only)\b[^\n.]{0,30}\bletter\b"
    r"|\b(?:which|what) (?:is|would be) the (?:correct|best|right) (?:answer|option|choice)\b"
    r"|\bmultiple[- ]choice question\b"
    r"|\bwhich (?:option|choice|answer|statement) (?:is|best|correctly)\b",
    re.IGNORECASE,
)
# A question for one thing, and not for advice or about the list itself.
_ASKS_FOR_ONE = re.compile(
    r"\b(?:which|what|who|whose|when|where|how (?:many|much|long|far|old|fast|often))\b",
    re.IGNORECASE,
)
_ASKS_ABOUT_LIST = re.compile(
    r"\b(?:you|your|I|me|my|we|us|our|this|these|those|them|following|are|were|below|about"
    r"|difference|differ|wrong with|missing)\b",
    re.IGNORECASE,
)
_ASKS_FOR_MORE = re.compile(
    r"\b(?:all that apply|more than one|two|three|each|every|all|both|rank|order|sort|match|compare"
    r"|explain (?:why|how|the (?:difference|options))|translate|rewrite|rephrase|reformat|format"
    r"|convert|summari[sz]e|proofread|improve|write|create|generate|draft|similar question|quiz"
    r"|distractors?|extract|json|csv|fix|edit|discuss|which ones|define|solve|describe|answer these"
    r"|(?:following|these|those|options|statements) are)\b",
    re.IGNORECASE,
)
_TASK = re.compile(
    r"\W*(?:what|why|how|explain|describe|define|solve|find|write|list|name|state|give"
    r"|calculate|compute|prove|discuss|compare)\b",
    re.IGNORECASE,
)
_OTHER_ANSWER = re.compile(
    r"\b(?:none|neither|all|both|any|several|more than one|multiple|no) (?:of |option|choice|answer"
    r"|correct|listed|are |is )|\bnot (?:listed|among|one of|in the (?:list|options))\b"
    r"|\b(?:closest|ambiguous|depends)\b",
    re.IGNORECASE,
)
_PLACE = re.compile(
    r"\b(?:(?:first|second|third|fourth|fifth|sixth|last|former|latter)(?= (?:one|option|choice"
    r"|answer|statement)|\b)|(?:option|choice|answer|number|no\.) ?#?\d)\b",
    re.IGNORECASE,
)
_NAMED_LETTER = re.compile(r"(?<![\w'’])(?:\(?[B-HJ-Z]\)?|\(?[AI][).:*\"]|\([AI]\))(?![\w'’])")
# In lower case only with a bracket, or behind its noun.
_SMALL_LETTER = re.compile(
    r"(?<![\w'’])(?:\(?([a-z])\)|(?:option|choice|answer(?: is)?|letter)[\s:*(\"'“]{1,4}([a-z]))"
    r"(?![\w'’])",
    re.IGNORECASE,
)
_WORD = re.compile(r"\d[\d,]*(?:\.\d+)?|[^\W\d_]{2,}")


def lacks_option(text: str, prompt: str) -> bool:
    """Whether a prompt asks for one of its options, and the answer's conclusion names none."""
    options = options_of(prompt)
    if not options or text.endswith("?") or not _asks_for_option(prompt, options):
        return False
    answer = final_answer(text, options=options)
    if answer is not None and answer.kind == "option":
        return False
    conclusion = f"{text[: _CONCLUSION_CHARS // 4]}\n{text[-_CONCLUSION_CHARS:]}"
    if _OTHER_ANSWER.search(conclusion) or _PLACE.search(conclusion):
        return False
    letters = {match[0].strip('().:*"') for match in _NAMED_LETTER.finditer(conclusion)}
    letters |= {(m[1] or m[2]).upper() for m in _SMALL_LETTER.finditer(conclusion)}
    return not letters.intersection(options) and not _repeats_option(conclusion, options)


def _repeats_option(conclusion: str, options: Options) -> bool:
    """Whether a text has an option's text, or a word or number that only this option has."""
    words = " ".join(conclusion.casefold().split())
    texts = [" ".join(option.casefold().split()).rstrip(".") for option in options.values()]
    if any(text and text[:_CONCLUSION_CHARS] in words for text in texts):
        return True
    counts = Counter(word for text in texts for word in _words(text[:_EDGE_CHARS]))
    return any(counts[word] == 1 for word in _words(words))


def _words(text: str) -> set[str]:
    return {word.replace(",", "") for word in _WORD.findall(text)}


def _asks_for_option(prompt: str, options: Options) -> bool:
    """Whether a prompt asks for one option, in words or as a question with options at its end."""
    if any(_is_task(option) for option in options.values()):
        return False
    text = prompt[-_EDGE_CHARS:]
    first, last = (text.rfind(options[letter]) for letter in (min(options), max(options)))
    end = last + len(options[max(options)])
    stem = text[:first].rpartition("A")[0].rstrip(" \n\t(*-") if first > 0 else text
    rest = stem + (text[end:] if last >= 0 else "")
    if _ASKS_FOR_MORE.search(rest):
        return False
    if _ASKS_FOR_OPTION.search(rest):
        return True
    is_at_end = 0 < first < last and end >= len(text.rstrip()) - 1
    if len(options) <= 2 or not is_at_end:
        return False
    question = re.split(r"[.!?\n]\s", stem)[-1]
    return stem.endswith("_") or (
        stem.endswith("?")
        and bool(_ASKS_FOR_ONE.search(question))
        and not _ASKS_ABOUT_LIST.search(question)
    )


def _is_task(option: str) -> bool:
    return option.rstrip(" *_\"'”’)").endswith("?") or _TASK.match(option) is not None
