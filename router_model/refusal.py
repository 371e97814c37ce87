"""Whether an answer only says that a model is not able to do what was asked.

A refusal for safety is none of these: another model would refuse, too. Only English refusals that
name what the model cannot reach or process are found; those in other languages pass.
"""

import re
from typing import Final

_MAX_REFUSAL_CHARS: Final = 600
_APOLOGY: Final = (
    r"(?:(?:I['’]?m|I am) (?:really |very |so )?sorry|I apologi[sz]e|sorry|unfortunately)"
)
_MODEL: Final = (
    r"(?:as|being) an? (?:large |text-based |AI |virtual |digital |helpful |local |small ){0,3}"
    r"(?:AI|(?:AI )?language model|(?:AI |virtual |digital )?assistant|model|chatbot)"
)
_OPENING: Final = rf"(?:{_APOLOGY}[,.;:]? (?:but )?)?(?:{_MODEL},? )?"
_CANNOT: Final = (
    r"(?:can['’]?t|cannot|can not|(?:am|['’]m) (?:currently )?(?:unable|not able) to"
    r"|(?:do not|don['’]t) have the (?:ability|capability) to|lack the ability to) "
    r"(?:currently |directly |actually |physically )?"
)
# What only a tool or another model can reach. Of "that restaurant" nothing is known.
_OBJECT: Final = (
    r"(?:internet|web|(?:web)?sites?|webpages?|pages?|links?|urls?|online|files?|attachments?"
    r"|documents?|pdfs?|images?|photos?|pictures?|videos?|audio|recordings?|data|databases?|news"
    r"|prices?|information|resources|sources|programs?|code|scripts?|commands?|software)\b"
)
_NOT_ABLE: Final = (
    rf"{_CANNOT}(?:(?:access|browse|search|open|view|see|hear|watch|visit|follow|fetch|retrieve"
    rf"|download|draw|run|execute|display|play)\b[^\n.,;:!?]{{0,40}}\b{_OBJECT}"
    r"|(?:generate|create|process|analy[sz]e) (?:the |this |an? )?(?:images?|audio|files?|videos?"
    r"|pictures?)"
    r"|provide (?:real|live|current|up|the (?:current|latest)))"
)
_NO_ACCESS: Final = (
    r"(?:do not|don['’]t) (?:currently )?have (?:direct |real-time |any )?access to "
    r"(?:real|live|current|up|the (?:internet|web|current|latest)|external|internet|files)"
)
# Verbs of what a text may also call impossible: these need an apology, or the model's name.
_TASK: Final = rf"{_CANNOT}(?:translate|solve|perform|compute|calculate)"
_UNABLE = re.compile(rf"{_OPENING}(?:and )?I ?(?:{_NOT_ABLE}|{_NO_ACCESS})", re.IGNORECASE)
_UNABLE_TASK = re.compile(
    rf"(?:{_APOLOGY}[,.;:]? (?:but )?(?:{_MODEL},? )?|{_MODEL},? )(?:and )?I ?{_TASK}",
    re.IGNORECASE,
)
# Another model would refuse these as well, or they are no refusal.
_NOT_INABILITY = re.compile(
    r"\b(?:harm|illegal|unethical|unsafe|danger|weapon|violen|explicit|hate|medical|legal|financial"
    r"|opinion|feel|emotion|personal|private|condone|promot|encourag|inappropriate|malware"
    r"|hack|policy|policies|guidelines|copyright|consent)\w*",
    re.IGNORECASE,
)
# The task has no solution, or the client has not given what it needs.
_NO_MODEL_COULD = re.compile(
    r"\bbecause (?!(?:I|of my|my)\b)|\bno (?:\w+ )?(?:solutions?|text|file|image|link|attachment)\b"
    r"|\b(?:there (?:is|are|was|were) no|(?:does|do|did) not exist|doesn['’]t exist|impossible"
    r"|undefined|unsolvable|insufficient|not enough|missing|incomplete|ambiguous"
    r"|without (?:the|more|an?)|unless|until|contradict\w*|inconsistent"
    r"|(?:did not|didn['’]t|haven['’]t|have not) "
    r"(?:provided?|given?|shared?|attached?|included?))\b"
    r"|\byour (?:\w+ )?(?:machine|computer|device|terminal|system|screen|network|account)\b",
    re.IGNORECASE,
)
# Behind the refusal: an answer, or a request for what is missing.
_STILL_ANSWERS = re.compile(
    r"\b(?:as of|here(?:['’]s| is| are)|based on|typically|generally|usually|on average|instead, "
    r"here|but (?:I can|the|it|based)|however, (?:I can|the|it|based)|for example"
    r"|(?:paste|share|send|upload|provide|describe) (?:me |us )?(?:it|the|your|them))\b"
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
# A question about the model, which "I can't" answers. "Can you search the web for …" asks for more.
_MAX_QUESTION_CHARS: Final = 100
_ASKS_ABOUT_MODEL = re.compile(
    r"\b(?:can|could|do|are|have|will|does|is|why) (?:you|your)\b(?![^\n]*\b(?:for|about|and|then"
    r"|to (?:find|get|see|check|tell|look)|tell me|today|tomorrow|tonight|now|current(?:ly)?"
    r"|latest)\b)"
    r"|\b(?:why|what|how|which)\b[^\n?]{0,20}\b(?:can(?:['’]?t|not)?|do|are|could) you\b"
    r"|\byour (?:own )?(?:abilit|capabilit|limit|tools?\b|access|knowledge cut|training)",
    re.IGNORECASE,
)


def is_refusal(text: str, prompt: str) -> bool:
    """Whether a short answer says that a model is not able to do what was asked, and no more.

    Args:
        prompt: its edges suffice.
    """
    if len(text) > _MAX_REFUSAL_CHARS:
        return False
    refusal = _UNABLE.match(text) or _UNABLE_TASK.match(text)
    if refusal is None or _NOT_INABILITY.search(text) or _NO_MODEL_COULD.search(text):
        return False
    if _STILL_ANSWERS.search(text, refusal.end()):
        return False
    if len(prompt) <= _MAX_QUESTION_CHARS and _ASKS_ABOUT_MODEL.search(prompt):
        return False
    return not (_ASKS_FOR_SUCH_TEXT.search(prompt) or _NOT_INABILITY.search(prompt))
