"""Train the router model from outcome data. This package imports router_model, never proxy."""

import router_model  # noqa: F401 -- before onnxruntime: disables its telemetry
