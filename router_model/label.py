"""Training labels from 0-10 quality scores.

A good answer has a score of 7 or more, as in the original version of this project.
"""

OK_SCORE = 7.0


def is_ok(score: float) -> bool:
    """Whether an answer with this 0-10 score counts as good."""
    return score >= OK_SCORE


def soft_label(score: float) -> float:
    """The training target in [0, 1] for one 0-10 score.

    Right/wrong scores (10 and 0) become 1 and 0. A judge's grade near the boundary is uncertain, so
    the target rises linearly from 0 at 4.5 to 1 at 8.5, crossing one half just under 7.
    """
    return min(1.0, max(0.0, (score - 4.5) / 4.0))


def unusable_reason(text: str | None, finish_reason: str | None) -> str | None:
    """Why an answer must not become a label; None if it may.

    A truncated answer measures the token limit, not the model. Labels from such answers teach a
    router to avoid long answers. `unfinished` means that the server gave no finish reason, as
    Ollama does when it fails during generation.
    """
    match finish_reason:
        case "length":
            return "truncated"
        case "content_filter":
            return "filtered"
        case None | "":
            return "unfinished"
    return None if text and text.strip() else "empty"
