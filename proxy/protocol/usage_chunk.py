"""The usage chunk of a stream, for a client that did not ask for it.

The proxy asks every stream for usage, which comes in a chunk without a choice. Some servers put
more into that chunk: llama.cpp its `timings`, which without usage are in the chunk before.
"""

from typing import Final

import msgspec

from proxy.protocol.fields import replace_json
from proxy.protocol.views import UNREADABLE, is_empty

# What the chunk of OpenAI and of most servers has. Source: OpenAI's API reference, "The chat
# completion chunk object".
_USUAL: Final = frozenset(
    "id object created model choices usage system_fingerprint service_tier obfuscation".split()
)
# Many clients read `choices[0]` of every chunk. Without usage no chunk lacks it.
_CHAT_CHOICE: Final = msgspec.Raw(b'[{"index":0,"delta":{},"finish_reason":null}]')
_TEXT_CHOICE: Final = msgspec.Raw(b'[{"index":0,"text":"","finish_reason":null}]')

_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def without_usage(event: bytes, data: bytes) -> bytes:
    """The event without usage and with an empty choice; b"" if it says nothing more.

    Args:
        data: the JSON in it.
    """
    try:
        fields = _fields.decode(data)
    except UNREADABLE:
        return b""
    if all(name in _USUAL or is_empty(raw) for name, raw in fields.items()):
        return b""
    fields.pop("usage", None)
    is_text = bytes(fields.get("object", b"")) == b'"text_completion"'
    fields["choices"] = _TEXT_CHOICE if is_text else _CHAT_CHOICE
    return replace_json(event, data, fields)
