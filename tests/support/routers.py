"""Manifests of routers that are written in a test, and have no network."""

from typing import Any

from router_model.manifest import Calibration, HeadCalibration, Manifest


def synthetic_manifest(**fields: Any) -> Manifest:
    """A manifest whose calibration changes no probability."""
    head = HeadCalibration()
    values: dict[str, Any] = {
        "version": "synthetic",
        "created_at": "",
        "base": "none",
        "max_length": 64,
        "local_model": "a",
        "cloud_model": "b",
        "calibration": Calibration(head, head, 0.5, 1.0, 0.0),
        "threshold": 0.5,
        "threshold_why": "",
        "thresholds": [],
        "data_sha256": "h",
        "files": {},
        "metrics": {},
    }
    return Manifest(**(values | fields))
