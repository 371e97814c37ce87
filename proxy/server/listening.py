"""The address to listen on: whether it is free, and how a browser on this machine names it."""

import errno
import socket

_CHOOSE = "Choose another port with --port N or server.port."


class CannotListen(Exception):
    """The address cannot be used; the message says why and what to do."""


def bind_addresses(host: str, port: int) -> list[socket.socket]:
    """A socket bound to each address of the host, not listening yet. Port 0: any free port.

    Raises:
        CannotListen: one of them is taken, not allowed or not of this machine.
    """
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in found:
            bound = socket.socket(family, kind, protocol)
            sockets.append(bound)
            # Otherwise connections that were just closed would be in the way.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            bound.bind((address[0], port, *address[2:]))
            port = bound.getsockname()[1]  # after port 0: the same port for the other addresses
    except OSError as error:
        for bound in sockets:
            bound.close()
        raise CannotListen(describe_failure(error, host, port)) from None
    return sockets


def check_address(host: str, port: int) -> None:
    """Bind each address of the host once, and release it.

    Raises:
        CannotListen: as `bind_addresses`.
    """
    for bound in bind_addresses(host, port):
        bound.close()


def describe_failure(error: OSError, host: str, port: int) -> str:
    """Why the address cannot be used, and what to do."""
    match error.errno:
        case errno.EADDRINUSE:
            return f"Port {port} is in use on {host}. {_CHOOSE}"
        case errno.EACCES:
            return f"Port {port} needs root or the capability CAP_NET_BIND_SERVICE. {_CHOOSE}"
        case errno.EADDRNOTAVAIL:
            return f"{host} is not an address of this machine. Check --host and server.host."
    return f"Cannot listen on {host}:{port}: {error.strerror}."


def host_to_open(host: str) -> str:
    """The host of a URL that works on this machine. A wildcard address is not one."""
    match host:
        case "0.0.0.0":  # noqa: S104 -- compared, not bound
            return "127.0.0.1"
        case "::":
            return "[::1]"
    return f"[{host}]" if ":" in host else host
