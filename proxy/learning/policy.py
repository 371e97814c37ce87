"""When self-calibration fits again, and how sure each test has to be.

Every fit is tested once. Many tests at 95 % would sooner or later activate a worse router by
chance. Therefore test k of a pair of models has the level 1 - 0.05 / (k (k + 1)). The sum of all
errors, over any number of tests, is at most 0.05, half of it towards a worse router (alpha spending
by a union bound, so the tests may depend on each other). The number of pairs between two tests
grows, so that early tests do not use up the errors.

`make simulate-learning` measures the constants (docs/learning.md).
"""

from typing import Final

ERROR: Final = 0.05  # of all tests of one pair of models together, two-sided
FIRST_PAIRS: Final = 500  # before the first fit; a fifth is held out
MIN_NEW_PAIRS: Final = 250  # between two fits
MAX_COUNTED: Final = 20_000  # new pairs; bounds the work of a check
GROWTH: Final = 0.5  # new pairs between two fits, as a share of the pairs of the last one


def pairs_needed(last_pairs: int | None) -> int:
    """The new judged pairs before the next fit.

    Args:
        last_pairs: the pairs that the last fit of these models had; None before the first.
    """
    if last_pairs is None:
        return FIRST_PAIRS
    return min(max(MIN_NEW_PAIRS, round(GROWTH * last_pairs)), MAX_COUNTED)


def level_of(test: int) -> float:
    """The confidence level of test number 1, 2, ... of a pair of models."""
    return 1.0 - ERROR / (test * (test + 1))
