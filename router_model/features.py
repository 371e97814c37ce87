"""The routing text and its token IDs: one definition for serving and training.

What the text contains, and why:

- The last user message is the task.
- System prompts are left out. All requests of an application share one, so it shifts every score
  alike and hides the differences. The model was trained on bare questions.
- A short last message ("and in Rust?") is a follow-up; the task is earlier in the conversation.
  Earlier user turns are then prepended within a budget; the oldest are dropped. A hard
  conversation stays hard, which errs on the safe side.
- Assistant and tool turns are left out. They describe what a model did, not what is asked, and a
  tool result can be a megabyte of logs.

Unknown: how well this works on conversations. There were no multi-turn outcomes to train on.

Long text is truncated in the middle. The head usually has the task, the tail the question or the
options, and the middle the material.
"""

from collections.abc import Sequence

from tokenizers import Tokenizer

SHORT_FOLLOW_UP_CHARS = 120
EARLIER_TURNS_CHARS = 1200

HEAD_CHARS = 1400
TAIL_CHARS = 900
# The share of the token limit for the start of a text that is still too long.
HEAD_TOKENS_SHARE = 0.6

_GAP = "\n…\n"


def routing_text(messages: Sequence[tuple[str, str]]) -> str:
    """The text to score for a conversation of (role, text) pairs, oldest first.

    Empty if no user turn has text.
    """
    turns = [text.strip() for role, text in messages if role == "user" and text.strip()]
    if not turns:
        return ""
    last = turns[-1]
    if len(last) >= SHORT_FOLLOW_UP_CHARS:
        return clip(last)
    parts = [last]
    budget = EARLIER_TURNS_CHARS
    for turn in reversed(turns[:-1]):
        # Of the turn that exceeds the budget the start is used: it usually has the task.
        parts.append(turn[:budget])
        budget -= len(turn) + 1
        if budget <= 0:
            break
    return clip("\n".join(reversed(parts)))


def clip(text: str) -> str:
    """Truncate `text` to about 2,300 characters, keeping head and tail. Idempotent.

    This bounds the time for tokenising. Except for unusually long words, 2,300 characters have more
    tokens than the model reads.
    """
    if len(text) <= HEAD_CHARS + TAIL_CHARS + len(_GAP):
        return text
    return text[:HEAD_CHARS] + _GAP + text[-TAIL_CHARS:]


def token_ids(tokenizer: Tokenizer, text: str, *, max_length: int) -> list[int]:
    """At most `max_length` IDs of the clipped text, special tokens included, the middle dropped.

    Truncation and padding of the tokenizer must be off.
    """
    ids: list[int] = tokenizer.encode(clip(text)).ids
    if len(ids) <= max_length:
        return ids
    head = round(max_length * HEAD_TOKENS_SHARE)
    return ids[:head] + ids[head - max_length :]
