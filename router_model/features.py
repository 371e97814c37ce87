"""The token IDs of a text: one definition for serving and training. The text is `task`'s.

Long text is truncated in the middle. The head usually has the task, the tail the question or the
options, and the middle the material.
"""

from tokenizers import Tokenizer

HEAD_CHARS = 1400
TAIL_CHARS = 900
# The share of the token limit for the start of a text that is still too long.
HEAD_TOKENS_SHARE = 0.6

_GAP = "\n…\n"


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
