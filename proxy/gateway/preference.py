"""The client's preference, read from the model name with what both tiers list."""

from collections.abc import Sequence

from proxy.errors import LocalModelMissing, LocalModelsUnknown
from proxy.gateway.call import Snapshot
from proxy.protocol.ollama import can_pull, pull_command
from proxy.record import Target
from proxy.routing import RoutingPreference


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
