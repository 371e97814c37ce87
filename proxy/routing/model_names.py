"""The names of models that a client may send: the proxy's own, those of a tier, and near misses.

A name is compared as Ollama compares names: without case, and without what Ollama adds to it
(`protocol.ollama.shortest_name`). Clients also put the name of a connection in front of it.
"""

import re
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from functools import lru_cache
from itertools import islice
from typing import Final

from proxy.protocol.model_servers import LOCAL_CONNECTIONS
from proxy.protocol.ollama import find_model, is_cloud_name, looks_local, shortest_name
from proxy.record import OWN_NAMES

# What clients put in front of a name to choose a connection to any server of OpenAI's API.
# Sources: LiteLLM's list of providers (aider, CrewAI, DSPy and smolagents use it), and opencode's.
_CONNECTIONS: Final = re.compile(
    r"(?:openai|openai[_-]like|openai[_-]compatible|custom_openai|text-completion-openai"
    r"|litellm_proxy|hybrid(?:-llm(?:-router)?)?)/",
    re.IGNORECASE,
)
# How docs call any local model, as in `local-model` of LM Studio.
_MEANS_LOCAL: Final = re.compile(r"local(?:[_-]?(?:ai|host|llm|model|server))?(?![a-z0-9])")
# Shares of equal characters, as `difflib` counts them: from the first on, a name is taken for
# another one (`atuo`, `phi-3`, `phi4` for `phi3`); from the second on, an error suggests the other.
_CLOSE: Final = 0.75
_SUGGESTED: Final = 0.6
# The work grows with the length of a name and with the number of names.
_MAX_COMPARED_CHARS: Final = 100
_MAX_COMPARED_NAMES: Final = 200
_MAX_CACHED: Final = 256  # comparisons: clients send few names, and each again and again


def own_name(model: str) -> str | None:
    """The name of the proxy's own that is meant, in lower case and with its parameters, or None."""
    name = _without(LOCAL_CONNECTIONS, _without(_CONNECTIONS, shortest_name(model.strip())))
    return name if name in OWN_NAMES or name.startswith("auto:") else None


def find_local(model: str, listed: Collection[str]) -> str | None:
    """The spelling of a local model in a list, also behind a connection's name; None if absent."""
    found = find_model(model, listed)
    name = without_connection(model)
    return find_model(name, listed) if found is None and name != model else found


def without_connection(model: str) -> str:
    """A local model's name without the name of a connection in front of it.

    `openai/x` may be a model of a cloud, so it stays unless `x` has the form of a local name.
    """
    name = model.strip()
    inner = _without(_CONNECTIONS, name)
    rest = _without(LOCAL_CONNECTIONS, inner)
    return rest if rest != inner or _looks_local(name, inner) else name


def _without(connections: re.Pattern[str], name: str) -> str:
    match = connections.match(name)
    return name if match is None else name[match.end() :]


def has_local_form(model: str) -> bool:
    """Whether only a local model can have a name, whichever models there are."""
    name = model.strip()
    inner = _without(_CONNECTIONS, name)
    return _looks_local(name, inner) or LOCAL_CONNECTIONS.match(inner) is not None


def _looks_local(name: str, inner: str) -> bool:
    """Whether a name looks local, as a whole or without a connection: `openai/phi3`."""
    return looks_local(name) or (looks_local(inner) and not is_cloud_name(name))


def is_near_miss(model: str, local_models: Iterable[str]) -> bool:
    """Whether a name, which is no model's, resembles the proxy's own or a local model's name."""
    if is_cloud_name(model):
        return False
    name = _without(_CONNECTIONS, shortest_name(model.strip()))
    if _MEANS_LOCAL.match(name) or name.rpartition("/")[2] in OWN_NAMES:
        return True
    return len(name) <= _MAX_COMPARED_CHARS and _resembles(name, _first(local_models))


@lru_cache(_MAX_CACHED)
def _resembles(name: str, local_models: tuple[str, ...]) -> bool:
    names = (*OWN_NAMES, *_comparable(local_models))
    return bool(get_close_matches(name, names, 1, _CLOSE))


def suggest_name(model: str, known: Iterable[str]) -> str:
    """The question whether another name is meant, with a space in front; empty if none is near."""
    name = _without(LOCAL_CONNECTIONS, _without(_CONNECTIONS, shortest_name(model.strip())))
    nearest = _nearest_name(name[:_MAX_COMPARED_CHARS], _first(known))
    return "" if nearest is None else f" Did you mean '{nearest}'?"


@lru_cache(_MAX_CACHED)
def _nearest_name(name: str, known: tuple[str, ...]) -> str | None:
    last_part = name.rpartition("/")[2]
    if _MEANS_LOCAL.match(name):
        return "local"
    names = {own: own for own in OWN_NAMES} | _comparable(known)
    if last_part in names:
        return names[last_part]
    base = last_part.partition(":")[0]
    for candidate in (name, last_part, base):
        if close := get_close_matches(candidate, names, n=1, cutoff=_SUGGESTED):
            return names[close[0]]
    return None


def _first(models: Iterable[str]) -> tuple[str, ...]:
    """The names that are compared, in a form that a cache can keep."""
    return tuple(islice(models, _MAX_COMPARED_NAMES))


def _comparable(models: Iterable[str]) -> dict[str, str]:
    """The names in their shortest form, and those without a tag, each with its spelling."""
    shortest = sorted((shortest_name(model), model) for model in models)
    bases = {name.partition(":")[0]: model for name, model in reversed(shortest)}
    return bases | dict(shortest)
