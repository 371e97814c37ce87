"""The tools that chat front ends add to every chat by themselves.

    may_leave_out(names, [("user", "What is the capital of France?")])    # True
    may_leave_out(names, [("user", "What is on my calendar today?")])     # False

Such tools do not show what the user wants. An application's own tools do, and so do those that the
user has switched on for a chat, such as web search: they are not listed here.

The lists of words err towards the tools: an unnecessary request to the cloud costs a fraction of a
cent, and an answer without a tool that the user asked for is wrong.

Source: Open WebUI 0.12.4, open_webui/utils/tools.py, `get_builtin_tools`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from typing import Final

from proxy.patterns import Matcher, compile_regex, encode
from router_model.task import Turns

_EDGE_CHARS: Final = 2_000  # of a message: instructions are at its start or its end
_REPLY_CHARS: Final = 80  # a shorter message takes its meaning from the turns before it
_MAX_TURNS: Final = 4
_LANGUAGE_CHARS: Final = 500  # at each edge
_COMMAND_CHARS: Final = 120  # at each edge; between them is the text that is worked on
_SHORT_CHARS: Final = 160  # a longer message brings what it refers to

_TIME: Final = (
    r"what (?:time|date)|(?:current|local|right|exact|today's) (?:time|date)"
    r"|the (?:time|date|day)(?:\?|$| now| in| today| right| please)"
    r"|time (?:is it|zone|now|in)|today(?:'s)?|tonight|tomorrow|yesterday|right now|now[?.!]"
    r"|currently|recently|current (?:year|month|week|day)"
    r"|(?:which|what) (?:day|year|month|week)(?:\?|$| is| are| of| do| does| will| should)"
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
    r"|(?:upcoming|new) events?|(?:create|add|make|delete) (?:an?|the|this) (?:\w+ )?event"
    r"|am i (?:free|busy)|do i have|have i got"
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
    r"|google (?:it|for|the)|online|internet|websites?|news|latest|https?|open (?:now|today)"
    r"|weather|forecast|the temperature (?:in|at|outside)"
    r"|(?:is|will) it (?:be )?(?:going to )?(?:rain(?:ing|y)?|snow(?:ing|y)?|cold|hot|warm|sunny"
    r"|windy)|(?:need|take|bring) (?:an |my )?umbrella|(?:the|is|any) traffic"
    r"|exchange rates?|stock prices?|prices? of"
)
_YOUR: Final = re.compile(r"\byour\b", re.IGNORECASE)
_STORE: Final = (
    r"(?:notes?|notebook|lists?|diary|journal|log|tasks?|backlog|inbox|reminders?|plans?|files?"
    r"|bookmarks?|records?)"
)
# What a message says at its start or its end that wants something to be stored or changed.
_COMMANDS: Final = (
    r"(?:(?:^|[.!?,:;]\s*|please |(?:can|could|would|will) you |and |then |just |let's )"
    r"(?:save|store|book|reserve|cancel|postpone|reschedule|schedule|mark|tick|log|archive|pin"
    r"|invite|jot|note|snooze|rename|pencil|block|keep this"
    r"|(?:move|shift|push) (?:the|\w+ (?:to|by|until))"
    r"|(?:delete|remove|move|shift|push|drop|clear|check|cross) (?:my|our|it|that|all|off)))"
    r"|(?:add|put|write|save|append|move|enter|copy) [^.?!]{1,80} (?:to|in|into|on|off|from)"
    rf" (?:(?:my|our|the|your) (?:[\w-]+ ){{0,2}}|shopping |grocery |packing )?{_STORE}"
    r"|for later|(?:don't|not) (?:let me )?forget"
)
# What a short message says that refers to what only the user or an organisation knows. A long one
# brings what it refers to.
_PERSONAL: Final = (
    r"(?:(?:where|when|what|who)(?:'s)?|which|whom|whose|how (?:much|many|long|old|far)|is|are|was"
    r"|does|did|has|show|list|find|open|read|check|get|tell me|give me|any) (?:[^.?!]{1,40} )?"
    r"(?:my|mine|our|ours|we)"
    r"|(?:did|had|have|was|am) i|do i (?:need to|owe|still)"
    r"|when (?:is|are|does|do) (?:the|we)|here[?.!]|at work|our (?:chat|conversation|discussion)"
    r"|(?:i|we) (?:just )?(?:parked|left|lost|saved|stored|booked|noted|wrote|put|said|asked|told"
    r"|mentioned|agreed|decided|planned)"
    r"|did \w+ (?:say|write|tell|mention|decide|reply|send|ask)"
    r"|(?:the|all|any|open|next|last|first|second|third|\w+th) (?:\w+ )?(?:tasks?|notes|entry)"
    r"|(?:the|a|this|that) note"
    r"|(?:anything|nothing|what's|what is) (?:planned|due|scheduled|next|coming up)"
    r"|(?:lunch|dinner|breakfast|coffee|drinks|call|date) with"
    r"|(?:mon|tues|wednes|thurs|fri|satur|sun)days?|noon|midnight|weekend"
    r"|\d{1,2}(?::\d\d)? ?(?:[ap]\.?m|o'clock)"
    r"|the (?:[\w-]+ ){0,3}(?:polic(?:y|ies)|handbook|guidelines|dress code|passwords?|wi-?fi"
    r"|office|deadlines?|roadmap|org chart|intranet|wiki|onboarding|helpdesk)"
    r"|who(?:'s| is) (?:on-?call|on duty|on leave|in charge)"
)

# The words above are English. These show that a text is, too: they are rare in other languages.
_ENGLISH: Final = frozenset(
    "the what what's how of you with does why which who where this that these those are is was "
    "were being has have having and because than then there their they them he she his its it it's "
    "your yours from into about after before between through would should could can't don't "
    "doesn't shall must might every each some many more few less when while whether if not only "
    "both either same other another own too just whom whose wasn't didn't isn't won't write "
    "explain give tell list translate make create suggest summarize summarise describe define "
    "compare convert calculate compute solve find show name choose rewrite rephrase shorten "
    "correct fix draft help say says said mean means meaning word words sentence question answer "
    "example difference best better first last three four five six seven eight nine ten two one "
    "zero hundred people person woman child children day days year years time thing things way "
    "work works use used using get got go goes going come take keep let know think see look want "
    "need feel like back out up down again short big small new old number function string return "
    "returns code english french german spanish italian poem story joke recipe spell capital "
    "called did my our you're i'm i'd i've def print import range output python sql regular "
    "expression integers factor exactly stack versus vs likely cause among strings sum average "
    "according following true false known made synonym antonym opposite largest smallest highest "
    "longest plural population recommend shorter longer simpler shortly why's who's can whats "
    "prove evaluate simplify integrate complete continue classify rank sort write-up".split()
)
_POLITE: Final = frozenset(
    "hi hello hey thx there good morning evening afternoon night thanks thank you very much so a "
    "lot great ok okay yes yeah yep no nope sure please perfect nice cool bye goodbye".split()
)
# Frequent words of other languages that are no English ones, without their accents, too.
_FOREIGN: Final = frozenset(
    # German, Dutch, Danish and Norwegian, Swedish
    "ich du wir ihr sie das der dem ein eine einen einem ist sind haben habe kann mir mich dir "
    "mein meine meinen meiner meinem und oder aber nicht auch noch wie wo wann wer welche welcher "
    "warum gibt es auf mit von zu zum zur bei nach fuer ueber heute morgen jetzt bitte uhr mal "
    "steht het een ik je jij mijn zijn heb hebt heeft dit dat wat waar hoe wanneer waarom welke "
    "niet ook voor naar aan bij staat laat hij vandaag hvad hva hvor hvordan hvornaar hvem hvilken "
    "er jeg mig det ikke og af som har klokken tiden nu vad ar jag inte och att hur nar vilken "
    "klockan mitt "
    # French, Spanish, Portuguese, Italian, Romanian
    "est les une je tu elle nous vous ils mon mes quel quelle que qui quoi quand pourquoi combien "
    "pas avec dans sont fait ce cette avez peux heure una por como cuando donde cual quien mis "
    "tengo tiene esta este hoy muy hora cuanto puedes hola sao qual onde meu minha hoje agora tem "
    "nao uma voce em seu che sono quando quanto perche mio mia oggi ora ho hai della nel questo "
    "questa ore sunt unde cand azi acum mea pentru imi calendarul cat "
    # Polish, Czech, Hungarian, Finnish, Turkish, Indonesian, Tagalog
    "jest jak gdzie kiedy kto moim moj moja mam nie sie czy dla dzisiaj teraz ktora godzina jsem "
    "kolik hodin kde kdy dnes moje az egy hogy mennyi nem hol mikor mika mita kello paljonko missa "
    "milloin minun ja ei nyt bir saat kac nedir benim bugun nasil apa yang berapa ini itu saya "
    "untuk sekarang hari dengan ano ang ng mga anong oras ngayon".split()
)
# In a request to rework a text, what is in quotation marks says nothing about the request.
_REWORK: Final = (
    r"translat(?:e|ion)|re(?:write|phrase|word|ply)|paraphrase|summari[sz]e|shorten|proofread"
    r"|correct|grammar|spelling|tense|polite(?:ly)?|sounds?|friendl(?:y|ier)|means?|say"
)
_QUOTED: Final = re.compile(r'"[^"]*"|\u201c[^\u201d]*\u201d')
_SENTENCES: Final = re.compile(r"[.!?;:\n]+")
# Words of Latin letters; letters of other scripts one by one.
_LATIN: Final = r"a-z\u00df-\u00f6\u00f8-\u036f\u1e00-\u1eff"
_WORDS: Final = re.compile(rf"[{_LATIN}]+(?:'[{_LATIN}]+)*|[^\W\d_]")


@cache
def _matcher(words: str) -> Matcher:
    """A test for a text with one of the words. RE2 takes some microseconds a kilobyte."""
    return compile_regex([rf"(?i)(?:^|\W)(?:{words})(?:\W|$)"])


def is_built_in(names: Sequence[str]) -> bool:
    """Whether all of the offered tools are those that a chat front end adds by itself."""
    return bool(names) and all(name in _OPEN_WEBUI for name in names)


def may_leave_out(names: Sequence[str], turns: Turns) -> bool:
    """Whether the newest message would be answered as well without the tools of a front end.

    They may not be left out if the message refers to what one of them does, or if it is not known
    to be English, so that this cannot be seen. A short message, such as "Yes, please", is read with
    the turns before it.

    Args:
        names: of tools that are built in.
        turns: of the conversation, the oldest first.
    """
    relevant = list(_relevant(turns))
    wanted = {words for name in names if (words := _OPEN_WEBUI[name]) is not None}
    for role, text in relevant:
        if any(name in text for name in names):
            return False
        patterns = {_ANY, *wanted}
        if role == "user" and wanted and len(text) <= _SHORT_CHARS:
            patterns.add(_PERSONAL)
        # An assistant's "your calendar" is the "my calendar" of the words.
        encoded = encode(text if role == "user" else _YOUR.sub("my", text))
        if any(_matcher(words)(encoded) for words in patterns):
            return False
        if role == "user" and wanted and _matcher(_COMMANDS)(encode(_ends(text, _COMMAND_CHARS))):
            return False
    return _is_english("\n".join(_ends(text, _LANGUAGE_CHARS) for _, text in relevant))


def _relevant(turns: Turns) -> Iterator[tuple[str, str]]:
    """The role and the edges of the turns that say what the newest message wants."""
    spoken = ((role, text) for role, text in reversed(turns) if role in ("user", "assistant"))
    is_reply = False
    for role, text in islice(spoken, _MAX_TURNS):
        shown = _ends(text, _EDGE_CHARS).replace("\u2019", "'")
        unquoted = _QUOTED.sub(" ", shown)
        yield role, unquoted if _matcher(_REWORK)(encode(unquoted)) else shown
        if role == "user":
            if is_reply or len(text) >= _REPLY_CHARS:
                return
            is_reply = True


def _ends(text: str, size: int) -> str:
    return text if len(text) <= 2 * size else f"{text[:size]}\n{text[-size:]}"


def _is_english(text: str) -> bool:
    """Whether a text is English, as far as its most frequent words show."""
    english = foreign = 0
    is_polite = True
    for sentence in _SENTENCES.split(text.lower()):
        words = _WORDS.findall(sentence)
        if _POLITE.issuperset(words):
            continue
        is_polite = False
        known = sum(map(_ENGLISH.__contains__, words))
        others = sum(map(_FOREIGN.__contains__, words))
        if not sentence.isascii():
            others += sum(word.isalpha() and not word.isascii() for word in words)
        if others > known:
            return False
        english, foreign = english + known, foreign + others
    return is_polite or english >= max(2 * foreign, 1)
