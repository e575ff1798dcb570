"""Ports on loopback for the services of ``up``."""

import errno
import random
import socket
from pathlib import Path

import psutil

from manybinder.errors import CommandError, Exit

HOST = "127.0.0.1"

_LOWEST = 10_240
_ATTEMPTS = 1000
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_ports(count: int) -> list[int]:
    """Ports that are free now, from below those that the kernel gives to outgoing connections.

    One of those could be taken for a moment at the very time at which a service starts or restarts.
    """
    sockets: list[socket.socket] = []
    try:
        for _ in range(_ATTEMPTS):
            if len(sockets) == count:
                return [int(each.getsockname()[1]) for each in sockets]
            candidate = socket.socket()
            try:
                candidate.bind((HOST, random.randrange(_LOWEST, _highest())))  # noqa: S311 - spreads, hides nothing
            except OSError:
                candidate.close()
            else:
                sockets.append(candidate)
    finally:
        for each in sockets:
            each.close()
    raise CommandError(f"no {count} free ports were found on {HOST}", Exit.USAGE)


def check_port(port: int) -> None:
    """Raises :class:`CommandError` if nothing can listen on this port, saying who does where that can be seen."""
    with socket.socket() as probe:
        # As servers do it: what lingers of closed connections is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                message = f"port {port} is in use{_by_whom(port)}: choose another one with --port"
            else:
                message = f"cannot listen on port {port}: {error.strerror}"
            raise CommandError(message, Exit.USAGE) from error


def _by_whom(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
            if listens and connection.pid:
                return f" by process {connection.pid} ({psutil.Process(connection.pid).name()})"
    except (psutil.Error, OSError):
        pass
    return ""


def _highest() -> int:
    try:
        lowest_outgoing = int(_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        lowest_outgoing = 32_768
    return lowest_outgoing if lowest_outgoing > _LOWEST + _ATTEMPTS else 65_536
