"""One request from its body to its record: decide, open the upstream, relay, record.

This package does not know Litestar or how a client is connected.
"""
