"""Which calls ask another machine; and the end of a process of a test that does.

Python runs this file at the start of each process that has its folder on the path, so tests reach what they start.
"""

import os
import sys


def asked(event, about):
    """Return the name of the other machine that a call looks up or connects to; None where it asks none."""
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = about[1]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        address = about[:1]
    else:
        return None
    import socket  # not above: processes that ask nothing start as fast as without this

    host = address[0] if isinstance(address, tuple) and address else None  # a path, of a socket of this machine
    name = host.decode() if isinstance(host, bytes) else host
    if not isinstance(name, str) or name in ("", "localhost", socket.gethostname()) or _is_loopback(name):
        return None
    return name


def _is_loopback(name):
    import ipaddress

    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _end(event, about):
    """End this process where it asks; pytest's own have a guard that fails the test."""
    if "_pytest" not in sys.modules and (name := asked(event, about)) is not None:
        os.write(2, f"a process of a test asks the network for {name}: tests run without one\n".encode())
        os._exit(97)


if __name__ == "sitecustomize":
    sys.addaudithook(_end)
