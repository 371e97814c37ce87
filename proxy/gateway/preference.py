"""The client's preference, read from the model name with what both tiers list.

A request to the local server's own API may be for that server only.
"""

from collections.abc import Sequence

from proxy.errors import InvalidRequest, LocalModelMissing, LocalModelsUnknown, NotFound
from proxy.gateway.call import Call, Snapshot
from proxy.protocol.ollama import can_pull, pull_command
from proxy.record import Target
from proxy.routing import RoutingPreference, read_headers


async def read_preference(
    snapshot: Snapshot, model: str, headers: Sequence[tuple[bytes, bytes]]
) -> RoutingPreference:
    """As `Router.read_preference`, with the local models.

    A name that means or resembles a local one is the cloud's if the cloud lists it or has a price
    for it. The cloud is asked for its list only then.
    """
    local, cloud = (snapshot.upstreams[target].catalog for target in Target)
    try:
        return snapshot.router.read_preference(model, headers, local.known_names)
    except (LocalModelMissing, LocalModelsUnknown) as error:
        if snapshot.prices.is_known(model) or await cloud.lists(model):
            return RoutingPreference(Target.CLOUD, model)
        name = error.installs if isinstance(error, LocalModelMissing) else None
        if name is not None and can_pull(name) and local.capabilities.needs_adapting:
            error.message += f" To install it: {pull_command(name)}"
        raise


def limit_to_own_api(call: Call, preference: RoutingPreference) -> RoutingPreference:
    """The preference for a request that perhaps only the local server can answer.

    Raises:
        InvalidRequest: the client wants the cloud for it, or the local server has no API of its
            own.
        NotFound: no tier is known to have the model.
    """
    native = call.native
    assert native is not None  # the caller has a request of that API
    if preference.target is Target.CLOUD:
        require_known_model(call, Target.CLOUD, preference.model)
    if native.is_load:
        return preference._replace(target=preference.target or Target.LOCAL)
    if (field := native.local_field) is None:
        return preference
    if preference.target is Target.CLOUD or call.wire(Target.LOCAL) is not call.endpoint:
        raise InvalidRequest(
            f"Only a local server with this API supports '{field}'. Use the model 'local'.",
            param=field,
            code="unsupported_by_local_model",
        )
    return preference._replace(target=Target.LOCAL)


def drop_vain_thinking(call: Call) -> None:
    """Leave `think` out if neither tier's model thinks: it would only choose the other tier.

    A cloud model thinks if it is a reasoning model, as far as is known.
    """
    native, cloud = call.native, call.snapshot.upstreams[Target.CLOUD]
    if native is None or not native.thinks or cloud.settings_of(cloud.model).reasoning:
        return
    if call.capabilities.lacking(["thinking"]):
        call.native = native._replace(thinks=False, drops_thinking=True)
        call.request.needs.pop("thinking", None)


def require_known_model(call: Call, target: Target, model: str | None) -> None:
    """Refuse a model that neither tier is known to have.

    Names are local here unless something says otherwise. One that is misspelled or not installed
    does not leave for the cloud with its prompt.

    Raises:
        NotFound: the cloud was not asked for, and the name has no listed price there.
    """
    snapshot = call.snapshot
    if target is not Target.CLOUD or model in (None, snapshot.upstreams[Target.CLOUD].model):
        return
    is_forced = read_headers(RoutingPreference(), call.exchange.headers).target is Target.CLOUD
    if not is_forced and not snapshot.prices.is_known(model):
        raise NotFound(
            f"model '{model}' not found, neither on the local server nor as a known model of the "
            "cloud. GET /api/tags lists the local ones.",
            param="model",
            code="model_not_found",
        )
