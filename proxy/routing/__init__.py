"""The routing decision: the client's preference, the model's score, the local model's limits.

This package does not send requests and does not know what an answer costs.
"""
