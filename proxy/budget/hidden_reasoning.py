"""An estimate of hidden reasoning: tokens that are billed but not sent.

A reasoning model of the cloud sends nothing while it thinks, and only the end of its answer has the
usage. If a timeout or the client ends a request before that, the provider still bills the thinking.
"""

from typing import Final

# OpenAI generates 50 to 100 tokens a second: what it guarantees for its reasoning models at the
# service tier `priority`. The highest of them, so that a budget is not exceeded unnoticed.
# Source: https://openai.com/api-priority-processing/, "Latency SLA".
TOKENS_PER_SECOND: Final = 100


def estimate_output(silent_seconds: float, *, during: int, after: int, most: int) -> int:
    """The tokens of an answer without usage: the thinking of a silence, and what was seen.

    Args:
        silent_seconds: from sending the request to the first text of the answer, or to its end.
        during: the tokens that were seen of this time, such as reasoning that is not hidden.
        after: the tokens that were seen after it.
        most: the most tokens that the answer can have.
    """
    thought = round(silent_seconds * TOKENS_PER_SECOND)
    return max(during + after, min(most, max(thought, during) + after))
