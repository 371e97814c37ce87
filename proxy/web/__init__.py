"""HTTP: the OpenAI endpoints, the JSON APIs, the pages, and each client's connection.

This package decides nothing about a request; the gateway does.
"""
