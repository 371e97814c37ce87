"""The two tiers as HTTP servers: connections, replicas, circuit breakers, queues and capabilities.

This package does not know why a request was sent to a tier or what its answer means.
"""
