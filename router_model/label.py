"""What a 0-10 quality score means as a training label.

The definition of a good answer is the original one of this project: a score of 7 or more.
"""

OK_SCORE = 7.0


def is_ok(score: float) -> bool:
    """Whether an answer with this 0-10 score counts as good."""
    return score >= OK_SCORE


def soft_label(score: float) -> float:
    """The training target in [0, 1] for one 0-10 score.

    Right/wrong data (10 and 0) stay 1 and 0. A judge's grade near the boundary says little, so
    the target rises linearly from 0 at 4.5 to 1 at 8.5, crossing one half just under 7.
    """
    return min(1.0, max(0.0, (score - 4.5) / 4.0))


def unusable_reason(text: str | None, finish_reason: str | None) -> str | None:
    """Why an answer must not become a label; None for one that may.

    An answer that was cut off says nothing about how well the model answers, only about the limit
    that was set; labels made from such answers teach a router to avoid long answers. `unfinished`
    is a server that ended without saying why, as Ollama does when it fails on the way.
    """
    match finish_reason:
        case "length":
            return "truncated"
        case "content_filter":
            return "filtered"
        case None | "":
            return "unfinished"
    return None if text and text.strip() else "empty"
