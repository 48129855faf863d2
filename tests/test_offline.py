"""No test asks another machine: what would is failed at once."""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.request

import pytest


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "example.org"])
def test_other_machines_are_not_asked(host):
    with pytest.raises(pytest.fail.Exception, match="without one"):
        socket.create_connection((host, 9), timeout=0.1)
    with pytest.raises(pytest.fail.Exception, match="without one"):
        urllib.request.urlopen(f"http://{f'[{host}]' if ':' in host else host}/", timeout=0.1)


def test_packets_are_not_sent_either():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as alone, pytest.raises(pytest.fail.Exception):
        alone.sendto(b"x", ("192.0.2.1", 9))


def test_this_machine_is_asked():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(("localhost", server.getsockname()[1])).close()


@pytest.mark.parametrize("call", ["create_connection(('192.0.2.1', 9), timeout=0.1)", "getaddrinfo('example.org', 9)"])
def test_a_process_that_a_test_starts_asks_no_other_machine(call):
    code = f"import socket\ntry:\n    socket.{call}\nexcept BaseException:\n    pass"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, "asks the network" in done.stderr) == (97, True)


def test_a_process_that_a_test_starts_asks_this_machine():
    code = "import socket\nwith socket.create_server(('127.0.0.1', 0)) as s:\n    "
    code += "socket.create_connection(('localhost', s.getsockname()[1])).close()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
