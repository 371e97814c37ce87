"""From outcome data to the router model. Imports router_model, never proxy."""
