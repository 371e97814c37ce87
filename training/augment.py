"""Data augmentation: random changes of a prompt that do not change its task.

A router that was trained on bare questions treats a greeting as part of the question. In every
epoch, each prompt may get a greeting, a request or an instruction, closing thanks, and typos. The
phrases differ from those in training/robustness.py, so that robustness is measured on new wording.
"""

import random

from router_model.features import clip

PHRASES_SHARE = 0.35
TYPO_SHARE = 0.2
TYPO_RATES = (0.01, 0.06)

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


def add_phrases(text: str, rng: random.Random) -> str:
    """Prepend a greeting, a request, or both to `text`; sometimes append thanks."""
    prefix = []
    if rng.random() < 0.6:
        prefix.append(rng.choice(GREETINGS))
    if not prefix or rng.random() < 0.7:
        prefix.append(rng.choice(REQUESTS))
    extended = f"{' '.join(prefix)}{rng.choice(_GAPS)}{text}"
    if rng.random() < 0.4:
        extended += rng.choice(_GAPS) + rng.choice(CLOSINGS)
    return extended


def add_typos(text: str, rng: random.Random, *, rate: float) -> str:
    """Replace, drop, repeat or swap a share `rate` of the letters."""
    letters = list(text)
    for i, letter in enumerate(letters):
        if not letter.isalpha() or rng.random() >= rate:
            continue
        match rng.randrange(4):
            case 0:
                letters[i] = rng.choice("abcdefghijklmnopqrstuvwxyz")
            case 1:
                letters[i] = ""
            case 2:
                letters[i] = letter * 2
            case _ if i:
                letters[i - 1], letters[i] = letter, letters[i - 1]
    return "".join(letters)


def vary(text: str, rng: random.Random) -> str:
    """Augment `text` at random. About half of the texts stay unchanged."""
    if rng.random() < TYPO_SHARE:
        text = add_typos(text, rng, rate=rng.uniform(*TYPO_RATES))
    if rng.random() < PHRASES_SHARE:
        text = add_phrases(text, rng)
    return clip(text)
