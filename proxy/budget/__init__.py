"""Money and limits: prices, token counts, rate limits, reservations and budget pacing.

This package does not know how a request is routed or relayed.
"""
