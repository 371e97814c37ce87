"""Free TCP ports of this machine, for servers whose port is a setting."""

import socket


def free_ports(number: int) -> list[int]:
    """Different ports of 127.0.0.1 that nothing listens on now."""
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports: list[int] = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return ports
