"""A gain per dollar with round figures, for tests."""

from typing import Any

from router_model.manifest import Gain


def flat_gain(**fields: Any) -> Gain:
    """A gain in which no logit has a weight, with some fields replaced."""
    values: dict[str, Any] = {
        "length": (0.0, 0.0, 0.0, 0.0, 0.0),
        "input_tokens": 100.0,
        "output_tokens": 50.0,
        "scale": 1.0,
    }
    return Gain(**values | fields)
