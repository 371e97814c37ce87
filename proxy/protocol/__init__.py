"""OpenAI's wire formats: what the proxy reads of a request and an answer, and what it may replace.

This package does not know where a request is sent, what it costs or who sent it.
"""
