"""Housekeeping requests: what a chat front end asks for itself, not for its user.

Titles, tags, suggested follow-ups, search queries, completions of a half-typed message, summaries
of the chat, a prompt for a picture of it, an emoji for a message. They are easy, and frequent: a
front end may send three for each chat. They are known by their structure: the first instruction
asks for such a text, about a conversation, in a frame. A task that also wants a summary is a task.

Only the edges of the newest user turn and the start of the system prompt are read.
"""

import re
from collections.abc import Sequence
from typing import Final

_EDGE_CHARS: Final = 1_500
_SYSTEM_CHARS: Final = 300
_MAX_SYSTEM_TURNS: Final = 10

_CHAT_WORDS: Final = ("chat", "conversation", "dialog", "discussion", "thread", "message")
_VERB: Final = (
    r"(?:generate|create|write|provide|suggest|give|produce|come up with|propose|make|extract"
    r"|return|determine|output|predict|choose|pick|select)"
)
# What is between verb and noun is a description of the text ("a concise, 3-5 word title"), not
# another thing to be made ("a program that generates a title").
_BETWEEN: Final = (
    r"(?:(?!(?:program|function|script|app|application|code|class|api|service|component|that|which"
    r"|story|essay|poem|page|to|for)\b)[\w'’\"–-]{1,20}[ ,]{1,2}){0,9}?"
)
_NOUN: Final = (
    r"(?:titles?|tags?|keywords?|follow-?up (?:questions?|prompts?|messages?|suggestions?)"
    r"|search quer(?:y|ies)|summary|emojis?"
    r"|prompts? for (?:an?|am) image|image(?: generation)? prompts?"
    r"|(?:messages?|questions|prompts|replies) (?:that )?(?:this|the) user"
    r" (?:might|may|could|would|will|is likely to)(?: \w{1,12}){1,3} next)"
)
_REQUEST = re.compile(
    rf"(?<![^\n.,:;!)])[ \t*#\"-]{{0,6}}(?:please |your task is to |now |can you )?"
    rf"(?:{_VERB} (?:me |us )?{_BETWEEN}{_NOUN}\b"
    r"|(?:briefly )?summari[sz]e (?:the|this|our|all)[\w ]{0,20}"
    r"(?:chat|conversation|discussion|dialog|messages)"
    r"|analy[sz]e (?:the|this) (?:chat|conversation)[\w ]{0,20} (?:to determine|and provide)"
    r"|analy[sz]e if this message indicates a new conversation topic"
    r"|re(?:phrase|write) the follow[- ]?up"
    r"|continue the text in [`<]"
    r"|reflect (?:the )?(?:speaker|user|author|writer)['’]s[\w ]{1,40} (?:through|with|by|using)"
    r" an?[\w ]{0,20} emoji)"
    r"|\byou are an? [\w ,-]{0,30}(?:title|tag|keyword|follow-?up (?:question|prompt|suggestion))s?"
    r"[ -](?:generator|generation)\b|\byou are an auto-?completion (?:system|assistant)",
    re.IGNORECASE,
)
_HISTORY = re.compile(
    r"<(?:chat|conversation|messages?|dialog(?:ue)?)(?:[_-]?history)?>|\bchat[ _]history\b[*]{0,2}:"
    r"|\b(?:conversation|chat|discussion|dialog(?:ue)?)\b[^\n:]{0,40}:[ \t]*$"
    r"|^[ \t#*]{0,6}(?:chat log|transcript|messages)\b[^\n:]{0,30}:[ \t*]*$"
    r"|^[ \t*\"<]{0,4}(?:assistant|ai|bot|model)[*\"]{0,3}[:>]"
    r"|^[ \t#*]{0,6}message[ \t*]{0,3}:[ \t*]{0,3}```",
    re.IGNORECASE | re.MULTILINE,
)
# Behind the request: "a title for this conversation", not "a title for my chat app".
_OF_CHAT = re.compile(
    r"\b(?:this|the|our|your|an?) (?:[\w']{1,12} ){0,2}"
    r"(?:chat|conversation|dialog(?:ue)?|discussion|thread|messages?)\b"
    r"(?! ?-?(?:app|bot|client|interface|page|program|room|server|service|ui|widget|window))",
    re.IGNORECASE,
)
_OUTPUT_RULE = re.compile(
    r"\bjson\b|\bonly\b|\bnothing else\b|\bwithout (?:any|quot)|\bno (?:quot|punctuat|explan|other)"
    r"|\bdo not (?:use|include|add|answer)|\b(?:words?|characters) (?:or|max|at most)"
    r"|\bunder \d+ (?:words|characters)\b|\b\d+(?:-|–| to )\d+[ -]words?\b"
    r"|\bat most \w+ words?\b|\bto use as a prompt\b",
    re.IGNORECASE,
)


# May stand before the request: a heading ("### Task:"), a role, and what the text is made from.
_INTRODUCTION = re.compile(
    r"(?:[#*>\s]*[\w ]{1,20}:[*\s]*)?"
    r"(?:you are [^.\n]{1,40}\b(?:assistant|ai|model|bot|system|summari[sz]er)\b[^.\n]{0,60}\.\s*)?"
    r"(?:[\w ]{1,20}:\s*)?"
    r"(?:(?:from|given|based on|using|for|in)\b[^.\n]{1,80}[,:]?"
    r"|(?:here|below) (?:is|are)\b[^.\n]{0,60})?",
    re.IGNORECASE,
)


# Behind the request: another task, for which the summary is only a part of the answer.
_ANOTHER_TASK = re.compile(
    r"\b(?:then|and|also|afterwards)\b,? (?:also |please )?"
    r"(?:add|build|code|debug|design|draft|explain|fix|implement|prove|refactor|repair|review"
    r"|rewrite|solve|translate|write)\b|\bat the end\b",
    re.IGNORECASE,
)


def is_housekeeping(turns: Sequence[tuple[str, str]]) -> bool:
    """Whether the newest turn of a conversation of (role, text) pairs is housekeeping."""
    if not turns or turns[-1][0] not in ("user", "system"):
        return False
    text = turns[-1][1]
    edges = (
        text if len(text) <= 2 * _EDGE_CHARS else text[:_EDGE_CHARS] + "\n" + text[-_EDGE_CHARS:]
    )
    if _is_about_chat(edges) and (request := _first_request(edges[:_EDGE_CHARS])):
        if _HISTORY.search(edges):
            return True
        has_answers = any(role == "assistant" for role, _ in turns[-4:-1])
        is_of_chat = has_answers or _OF_CHAT.search(edges, request.start(), request.end() + 100)
        if is_of_chat and len(text) <= _EDGE_CHARS and _OUTPUT_RULE.search(edges):
            return True
    return any(
        role in ("system", "developer") and _is_for_housekeeping(text[:_EDGE_CHARS])
        for role, text in turns[:_MAX_SYSTEM_TURNS]
    )


def _is_for_housekeeping(system: str) -> bool:
    """Whether a system prompt asks for nothing but such a text."""
    request = _first_request(system[:_SYSTEM_CHARS]) if _is_about_chat(system) else None
    return bool(
        request
        and _OF_CHAT.search(system, request.start(), request.end() + 100)
        and _OUTPUT_RULE.search(system)
    )


def _first_request(text: str) -> re.Match[str] | None:
    """The request, if nothing else is asked.

    Only a heading, a role, what it is made from or a chat may stand before it.
    """
    request = _REQUEST.search(text)
    if request is None or _ANOTHER_TASK.search(text, request.start(), request.end() + 200):
        return None
    before = text[: request.start()]
    history = _HISTORY.search(before)
    leads = (before, before[: history.start()]) if history else (before,)
    is_first = any(_INTRODUCTION.fullmatch(lead.strip(' \t\n#*"<>')) for lead in leads)
    return request if is_first else None


def _is_about_chat(text: str) -> bool:
    lower = text.lower()
    return any(word in lower for word in _CHAT_WORDS)
