"""From outcome data to the router model. Imports router_model, never proxy."""

import router_model  # noqa: F401 -- before onnxruntime, which it tells to keep to itself
