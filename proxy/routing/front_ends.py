"""The tools that chat front ends add to every chat by themselves.

    may_leave_out(names, "What is the capital of France?")    # True
    may_leave_out(names, "What is on my calendar today?")     # False

Such tools do not show what the user wants. An application's own tools do, and so do those that the
user has switched on for a chat, such as web search: they are not listed here.

Source: Open WebUI 0.12.4, open_webui/utils/tools.py, `get_builtin_tools`.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final

from proxy.patterns import Matcher, compile_regex, encode

_EDGE_CHARS: Final = 2_000  # of a message: instructions are at its start or its end

_TIME: Final = (
    r"what (?:time|date)|(?:current|local|right|exact|today's) (?:time|date)"
    r"|the (?:time|date|day)(?:\?|$| now| in| today| right| please)"
    r"|time (?:is it|zone|now|in)|today(?:'s)?|tonight|tomorrow|yesterday|right now|now[?.!]"
    r"|currently|recently|current (?:year|month|week|day)|(?:which|what) (?:day|year|month|week)"
    r"|(?:this|next|last) (?:week|month|year|weekend|\w+day)|how old|my age"
    r"|(?:long|days?|weeks?|months?|hours?|years?|time) (?:is it )?(?:until|till|since|ago|left)"
    r"|(?:days?|weeks?|hours?|minutes?) (?:from|before|after)"
)
_OWN_FILES: Final = (
    r"knowledge bases?|(?:the|this|that) (?:\w+ )?(?:files?|documents?|pdfs?)|uploaded"
    r"|attach(?:ed|ment)"
    r"|(?:my|our|these|those) (?:\w+ ){0,2}(?:files?|documents?|docs|pdfs?|collections?|manuals?"
    r"|handbook|reports?|papers?|polic(?:y|ies)|wiki|data|records?|products?|customers?|company)"
)
_CHATS: Final = (
    r"(?:previous|earlier|past|other|older|last|old) (?:chats?|conversations?|discussions?"
    r"|sessions?)"
    r"|(?:my|our|all) (?:chats|conversations|discussions)|chat history|last time (?:we|i|you)"
    r"|(?:we|i) (?:\w+ )?(?:talked|discussed|spoke|chatted|asked you|told you)"
    r"|did (?:we|i) (?:\w+ )?(?:ask|say|talk|discuss|tell)|(?:last|the other) (?:week|day|month)"
)
_MEMORY: Final = (
    r"remember|(?:your|my|to) memor(?:y|ies)|memori[sz]e|forget (?:that|about|what|my)|recall"
    r"|(?:about|know) me|keep in mind|from now on|call me|who am i"
    r"|my (?:\w+ )?(?:name|favou?rites?|birthday|preferences?|wife|husband|partner|job|address"
    r"|hobb(?:y|ies)|pets?|dogs?|cats?|age|allerg(?:y|ies)|diet)|do i (?:have|like|own|live|work)"
)
_NOTES: Final = (
    r"(?:my|our|new|these) (?:\w+ )?notes?|note (?:down|that)|notes about"
    r"|(?:make|take|write|create|add|open|find|read) (?:me )?(?:an?|the|this|that) (?:\w+ )?notes?"
    r"|(?:jot|write) (?:this|that|it|them) down|(?:save|store) (?:this|that|it|them)"
)
_CHANNELS: Final = r"channels?|(?:my|our|the) team|posted"
_SKILL: Final = r"(?:a|new|this|that|my) skills?"
_TASKS: Final = r"(?:task|to-?do|check) ?lists?|to-?dos?|(?:my|the|our) tasks?|keep track"
_SCHEDULE: Final = (
    r"schedule (?:an?|my|the|this|it|me|for)|(?:my|our) (?:\w+ )?schedule|remind (?:me|us)"
    r"|reminders?"
)
_AUTOMATIONS: Final = (
    rf"{_SCHEDULE}|automat(?:e|ions?)|recurring|(?:hourly|daily|weekly|monthly) (?:report|digest"
    r"|summary|update|news|briefing)|(?:every|each) (?:\w+ )?(?:day|morning|evening|night|week"
    r"|month|hour|minute|\w+day)"
)
_CALENDAR: Final = (
    rf"{_SCHEDULE}|calendars?|appointments?|meetings?|agenda|(?:my|our) (?:\w+ )?(?:events?"
    r"|bookings?|day|week|weekend|plans?|birthday|flight|trip)"
    r"|(?:upcoming|new) events?|am i (?:free|busy)|do i have|have i got"
)
_LATER: Final = (
    r"timers?|alarms?|wake (?:me|us)|in (?:an?|half an|\d+|\w+) (?:minutes?|hours?|seconds?)"
    r"|delegat(?:e|ing)|sub-?agents?"
)
_NOTIFY: Final = r"notify|notifications?|alert (?:me|us)|ping|let me know|message me"

# What a message says that wants one of these tools. None: only the model wants it.
_TOOLS_BY_WORDS: Final[Mapping[str | None, str]] = {
    None: "ask_user",
    _TIME: "get_current_timestamp calculate_timestamp",
    _OWN_FILES: (
        "list_knowledge_bases search_knowledge_bases query_knowledge_bases search_knowledge_files "
        "grep_knowledge_files query_knowledge_files view_knowledge_file kb_exec"
    ),
    _CHATS: "search_chats view_chat",
    _MEMORY: (
        "search_memories list_memory_paths read_memory_path list_memories update_memory "
        "add_memory replace_memory_content delete_memory"
    ),
    _NOTES: "search_notes view_note write_note replace_note_content",
    _CHANNELS: ("search_channels search_channel_messages view_channel_thread view_channel_message"),
    _SKILL: "create_skill",
    _TASKS: "create_tasks update_task",
    _AUTOMATIONS: (
        "create_automation update_automation list_automations toggle_automation delete_automation"
    ),
    _CALENDAR: (
        "search_calendar_events create_calendar_event update_calendar_event delete_calendar_event"
    ),
    _LATER: "delegate_task timer",
    _NOTIFY: "notify",
}
_OPEN_WEBUI: Final = {
    name: words for words, names in _TOOLS_BY_WORDS.items() for name in names.split()
}
# Whatever is offered: a tool as such, and what no model knows of itself.
_ANY: Final = (
    r"tools?|(?:search|look|browse) (?:\w+ )?(?:for|the|my|our|through|up|online)"
    r"|google (?:it|for|the)|online|internet|websites?|news|latest|weather|forecast"
    r"|exchange rates?|stock prices?|prices? of|https?"
)
# The words above are English. Texts in other languages have few of these.
_ENGLISH: Final = (
    "the|what|how|of|and|you|with|for|does|why|which|who|when|where|write|please|can|this|that|are"
    "|explain|give|tell|list|translate|hello|hi|hey|thanks?|to|make|your|about"
)


@cache
def _matcher(words: str) -> Matcher:
    """A test for a text with one of the words. RE2 takes some microseconds a kilobyte."""
    return compile_regex([rf"(?i)(?:^|\W)(?:{words})(?:\W|$)"])


def is_built_in(names: Sequence[str]) -> bool:
    """Whether all of the offered tools are those that a chat front end adds by itself."""
    return bool(names) and all(name in _OPEN_WEBUI for name in names)


def may_leave_out(names: Sequence[str], message: str) -> bool:
    """Whether a message would be answered as well without the tools of a front end.

    They may not be left out if the message refers to what one of them does, or if it is not known
    to be English, so that this cannot be seen.

    Args:
        names: of tools that are built in.
        message: the newest one of the user.
    """
    text = message
    if len(text) > 2 * _EDGE_CHARS:
        text = f"{text[:_EDGE_CHARS]}\n{text[-_EDGE_CHARS:]}"
    encoded = encode(text)
    if any(map(str.isalpha, text)) and not _matcher(_ENGLISH)(encoded):
        return False
    if any(name in text for name in names):
        return False
    wanted = filter(None, {_OPEN_WEBUI[name] for name in names})
    return not any(_matcher(words)(encoded) for words in (_ANY, *wanted))
