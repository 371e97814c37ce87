"""Self-calibration: fits the router to new judged pairs, tests the fit, and activates it.

This package does not know HTTP, and it starts no process: `server` runs its steps in one.
"""

from proxy.learning.activation import NothingToChange, activate, changes_of, follow, roll_back
from proxy.learning.records import EXPIRY_SECONDS, LearningRecords
from proxy.learning.run import run_step
from proxy.learning.state import outdated_parts, read_state
from proxy.learning.steps import Models

__all__ = [
    "EXPIRY_SECONDS",
    "LearningRecords",
    "Models",
    "NothingToChange",
    "activate",
    "changes_of",
    "follow",
    "outdated_parts",
    "read_state",
    "roll_back",
    "run_step",
]
