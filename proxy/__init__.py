"""The proxy: an OpenAI-compatible server that routes each request to a local or a cloud model."""

__version__ = "0.1.0"
