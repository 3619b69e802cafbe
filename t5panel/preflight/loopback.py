"""The loopback, over which the ranks of one machine find each other. No name is resolved for it."""

from __future__ import annotations

import socket

from t5panel.plan.planning import Finding

INTERFACE = "lo"
"""What the ranks are told to use (GLOO_SOCKET_IFNAME)."""
ADDRESS = "127.0.0.1"
CONNECT_SECONDS = 2.0


def loopback_fault(*, address: str = ADDRESS, interface: str = INTERFACE) -> str:
    """Why no port of the loopback can be bound and reached; empty when one can."""
    if interface not in (name for _, name in socket.if_nameindex()):
        return f"there is no network interface {interface!r}"
    try:
        with socket.socket() as server, socket.socket() as client:
            server.bind((address, 0))
            server.listen(1)
            client.settimeout(CONNECT_SECONDS)
            client.connect(server.getsockname())
    except OSError as error:
        return f"no port of {address} can be reached: {error.strerror or error}"
    return ""


def loopback_findings(fault: str) -> tuple[Finding, ...]:
    """What that holds against several ranks."""
    hint = "sudo ip link set lo up; and let a firewall pass 127.0.0.1"
    return (Finding("error", "network.loopback", f"the ranks cannot meet: {fault}", hint),) if fault else ()
