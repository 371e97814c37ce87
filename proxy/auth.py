"""API keys: who may use /v1. Keys are compared in constant time and kept as hashes in rows."""

import hashlib
import hmac
from collections.abc import Iterable

from proxy.config import Secret
from proxy.errors import NotAuthenticated
from proxy.record import key_hash


class ApiKeys:
    """The configured keys. With none configured everyone who can reach the port is let in."""

    def __init__(self, keys: Iterable[Secret]) -> None:
        self._known = [
            (hashlib.sha256(key.reveal().encode()).digest(), key_hash(key.reveal())) for key in keys
        ]

    def check(self, authorization: bytes | None) -> str | None:
        """The hash of the key in an `Authorization: Bearer …` header, None when none is needed.

        Raises:
            NotAuthenticated: a key is needed, and this is none of ours.
        """
        if not self._known:
            return None
        if not authorization:
            raise NotAuthenticated(
                "You didn't provide an API key: send it as 'Authorization: Bearer YOUR_KEY'."
            )
        scheme, _, given = authorization.partition(b" ")
        digest = hashlib.sha256(given.strip()).digest()
        found = None
        for known, name in self._known:  # no early exit: the time tells nothing about the key
            if hmac.compare_digest(known, digest):
                found = name
        if found is None or scheme.lower() != b"bearer":
            raise NotAuthenticated("Incorrect API key provided.")
        return found
