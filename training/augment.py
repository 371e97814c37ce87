"""Changes of a prompt that change nothing about the task, so that training sees them too.

A router that has only met bare questions takes a greeting before one for part of the question. In
every epoch each prompt is, by chance, left as it is or dressed as people write: a greeting, a
request or an instruction before it, thanks after it, letters mistyped. The wording here and that of
training/robustness.py have nothing in common but the kind: what is measured there was not learnt.
"""

import random

from router_model.features import clip

DRESSED_SHARE = 0.35
MISTYPED_SHARE = 0.2
MISTYPED_RATES = (0.01, 0.06)

GREETINGS = (
    "Hi!",
    "Hey,",
    "Hi there,",
    "Good morning.",
    "Good evening!",
    "Dear assistant,",
    "Greetings.",
    "Hey, quick one:",
    "Hello again.",
    "Yo",
    "Hallo!",
    "Bonjour,",
)
REQUESTS = (
    "can you help me out?",
    "I have a question for you.",
    "I was wondering about this.",
    "I'd be grateful for a hand with something.",
    "Would you mind taking a look at the problem below?",
    "please solve this for me:",
    "my teacher gave us this one.",
    "This came up at work today.",
    "I need the answer for a quiz.",
    "Give me your best answer.",
    "Think it through and tell me the result.",
    "Reply to the request that follows.",
    "Task:",
    "Question:",
    "Q:",
    "Bitte hilf mir damit:",
    "Pouvez-vous m'aider avec ceci ?",
    "Necesito ayuda con esto:",
    "Помогите, пожалуйста:",
    "请帮我解决这个问题：",
)
CLOSINGS = (
    "Thanks!",
    "Thanks in advance.",
    "Many thanks, I appreciate it.",
    "Cheers",
    "Please be brief.",
    "Please explain your reasoning.",
    "Take your time.",
    "Any help is welcome!",
    "Answer:",
    "Danke!",
)
_GAPS = (" ", "\n", "\n\n")


def dress(text: str, dice: random.Random) -> str:
    """A greeting, a request, or both before `text`; sometimes thanks after it."""
    before = []
    if dice.random() < 0.6:
        before.append(dice.choice(GREETINGS))
    if not before or dice.random() < 0.7:
        before.append(dice.choice(REQUESTS))
    dressed = f"{' '.join(before)}{dice.choice(_GAPS)}{text}"
    if dice.random() < 0.4:
        dressed += dice.choice(_GAPS) + dice.choice(CLOSINGS)
    return dressed


def mistype(text: str, dice: random.Random, *, rate: float) -> str:
    """Replace, drop, repeat or swap `rate` of the letters, as fingers do."""
    letters = list(text)
    for i, letter in enumerate(letters):
        if not letter.isalpha() or dice.random() >= rate:
            continue
        match dice.randrange(4):
            case 0:
                letters[i] = dice.choice("abcdefghijklmnopqrstuvwxyz")
            case 1:
                letters[i] = ""
            case 2:
                letters[i] = letter * 2
            case _ if i:
                letters[i - 1], letters[i] = letter, letters[i - 1]
    return "".join(letters)


def vary(text: str, dice: random.Random) -> str:
    """`text` as somebody else might have sent it; mostly as it is."""
    if dice.random() < MISTYPED_SHARE:
        text = mistype(text, dice, rate=dice.uniform(*MISTYPED_RATES))
    if dice.random() < DRESSED_SHARE:
        text = dress(text, dice)
    return clip(text)
