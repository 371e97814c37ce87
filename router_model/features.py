"""The text that is scored, and its token ids: the one definition for serving and training.

What enters, and why:

- The last user message is the task.
- System prompts never enter. All requests of an app share theirs, so it shifts every score alike
  and only hides the differences; and the model was trained on bare questions.
- A short last message ("and in Rust?") is a follow-up: the task sits in the conversation. Then
  earlier user turns are put before it, newest kept, within a budget. A hard conversation so stays
  hard, which errs on the safe side.
- Assistant and tool turns never enter: they describe what a model did, not what is asked, and a
  tool result can be a megabyte of someone's log.

Not known: how well this works on conversations. No multi-turn outcomes were there to train on.

Long text is cut in the middle. The head usually holds the task and the tail the question or the
options, while the middle is material.
"""

from collections.abc import Sequence

from tokenizers import Tokenizer

SHORT_FOLLOW_UP_CHARS = 120
EARLIER_TURNS_CHARS = 1200

HEAD_CHARS = 1400
TAIL_CHARS = 900
# Of the tokens that fit, the share taken from the start when a text is still too long.
HEAD_TOKENS_SHARE = 0.6

_GAP = "\n…\n"


def routing_text(messages: Sequence[tuple[str, str]]) -> str:
    """The text to score for a conversation of (role, text) pairs, oldest first.

    Empty when no user turn has text; callers decide what an empty text means.
    """
    turns = [text.strip() for role, text in messages if role == "user" and text.strip()]
    if not turns:
        return ""
    last = turns[-1]
    if len(last) >= SHORT_FOLLOW_UP_CHARS:
        return clip(last)
    kept = [last]
    budget = EARLIER_TURNS_CHARS
    for turn in reversed(turns[:-1]):
        # The turn that breaks the budget is kept by its start, where the task usually is.
        kept.append(turn[:budget])
        budget -= len(turn) + 1
        if budget <= 0:
            break
    return clip("\n".join(reversed(kept)))


def clip(text: str) -> str:
    """`text` bounded to about 2,300 characters, head and tail kept. Idempotent.

    Tokenising then costs a bounded time, and 2,300 characters hold more tokens than the model
    reads of anything but unusually long words.
    """
    if len(text) <= HEAD_CHARS + TAIL_CHARS + len(_GAP):
        return text
    return text[:HEAD_CHARS] + _GAP + text[-TAIL_CHARS:]


def token_ids(tokenizer: Tokenizer, text: str, *, max_length: int) -> list[int]:
    """At most `max_length` ids of the clipped text, special tokens included, middle left out.

    The tokenizer must have neither truncation nor padding switched on.
    """
    ids: list[int] = tokenizer.encode(clip(text)).ids
    if len(ids) <= max_length:
        return ids
    head = round(max_length * HEAD_TOKENS_SHARE)
    return ids[:head] + ids[head - max_length :]
