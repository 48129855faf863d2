"""What a server is sent that it should not be: it says no, in time, and lives on."""

import io
import socket
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("python_multipart", reason="needs the extra serve")

from starlette.testclient import TestClient

from onecycle.deploy.serve.app import make_app
from onecycle.deploy.serve.guard import Hosts
from onecycle.deploy.serve.limits import Limits
from onecycle.errors import ArgumentError

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'


def png_that_claims(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    parts = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.fixture
def client(served):
    limits = Limits(request_bytes=100_000, request_pictures=3, waiting_pictures=2)
    with TestClient(make_app(served[0], limits=limits), base_url="http://127.0.0.1:8000") as client:
        yield client


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"nothing", 415),
        (EPS, 415),
        (SVG, 415),
        (b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n", 415),
        (png_that_claims(50_000, 50_000), 413),
        (png_that_claims(400, 300), 422),
        (b"\xff\xd8\xff\xe0" + bytes(50), 415),
        (bytes(100_001), 413),
    ],
)
def test_a_body_that_is_no_picture_is_refused_without_a_word_about_this_machine(client, body, status):
    for answer in (client.post("/predict", content=body), client.post("/predict", files={"a": ("/etc/x", body)})):
        assert answer.status_code == status
        (said,) = answer.json().values()
        assert not any(word in said for word in ("/", "0x", "Traceback", "BytesIO"))


def test_one_bad_picture_leaves_the_others_answered(served, client):
    good = Path(served[1][3]).read_bytes()
    parts = [("pictures", good), ("pictures", EPS)]
    first, second = client.post("/predict", files=parts).json()["predictions"]
    assert first["labels"]
    assert set(second) == {"error"}
    refused = client.post("/predict", files=[("p", b"x")] * 4)
    assert (refused.status_code, "3 pictures at most" in refused.json()["error"]) == (413, True)
    full = client.post("/predict", files=[("p", good)] * 3)
    assert full.status_code == 503
    assert int(full.headers["retry-after"]) >= 1


def test_types_forms_and_addresses_that_are_not_served(client):
    assert client.post("/predict", content=b"{}", headers={"Content-Type": "application/json"}).status_code == 415
    for kind in ("multipart/form-data", "multipart/form-data; boundary=x"):
        assert client.post("/predict", content=b"--y\r\n", headers={"Content-Type": kind}).status_code == 422
    assert client.get("/predict").status_code == 405
    assert client.get("/../../etc/passwd").status_code == 404
    assert client.post("/feedback", files={"picture": b"x"}).status_code == 404


def test_a_damaged_form_writes_nothing_to_the_log():
    code = (
        "import onecycle.deploy.serve.pictures\n"
        "from python_multipart.multipart import MultipartParser\n"
        "try: MultipartParser(b'x').write(b'--y')\n"
        "except ValueError: print('refused')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("refused\n", "")


def test_only_its_own_names_and_its_own_page_may_ask(client):
    assert client.get("/model", headers={"Host": "evil.example:8000"}).status_code == 421
    assert client.post("/predict", headers={"Origin": "http://evil.example"}).status_code == 403
    assert client.get("/model", headers={"Host": "localhost:9"}).status_code == 200
    page = client.get("/")
    policy = page.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy


@pytest.mark.parametrize(
    ("host", "allowed", "refused"),
    [
        ("127.0.0.1", ["localhost", "127.0.0.1:8000", "[::1]:8000"], ["192.168.1.5", "evil.example", "box", ""]),
        ("0.0.0.0", ["192.168.1.5:8000", "[fe80::1]", "localhost", "BOX:8000"], ["evil.example", "box.evil.example"]),
        ("box.lan", ["box.lan", "10.0.0.1", "box"], ["evil.example"]),
    ],
)
def test_names_under_which_a_server_may_be_addressed(host, allowed, refused, monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "Box")
    hosts = Hosts.of(host)
    assert [name for name in allowed if not hosts.allow(name)] == []
    assert [name for name in refused if hosts.allow(name)] == []
    more = Hosts.of(host, ["Evil.example"])
    assert more.allow("evil.example:443")
    assert not more.allow("x.evil.example")
    assert "evil.example" in str(more)


@pytest.mark.parametrize("name", ["https://a.example", "a.example:80", "a.example/x", "", "a b"])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(ArgumentError, match="without port or path"):
        Hosts.of("0.0.0.0", [name])


def test_a_token_is_asked_for(served):
    with TestClient(make_app(served[0], token="s3cret"), base_url="http://localhost") as client:
        assert client.get("/model").status_code == 401
        assert client.get("/model", headers={"Authorization": "Bearer other"}).status_code == 401
        assert client.get("/model", headers={"Authorization": "Bearer s3cret"}).status_code == 200
        assert [client.get(p).status_code for p in ("/", "/v2/health/live", "/metrics")] == [200, 200, 401]


def test_what_happened_is_counted(served, client):
    client.post("/predict", content=Path(served[1][3]).read_bytes())
    client.post("/predict", content=EPS)
    client.get("/v2/models/toy")
    lines = client.get("/metrics").text.splitlines()
    assert 'onecycle_requests_total{route="/v2/models/toy",status="200"} 1' in lines
    assert 'onecycle_requests_total{route="/predict",status="200"} 1' in lines
    assert 'onecycle_requests_total{route="/predict",status="415"} 1' in lines
    assert 'onecycle_pictures_total{outcome="refused"} 1' in lines
    assert "onecycle_waiting_pictures 0" in lines
    assert "onecycle_waiting_bytes 0" in lines


# -- over a socket ----------------------------------------------------------------------------------------------

SERVER = """
from onecycle.deploy.portable.predict import Model
import sys
from onecycle.deploy.serve.app import make_app
from onecycle.deploy.serve.limits import Limits
from onecycle.deploy.serve.server import listen, serve
limits = Limits(request_bytes=300_000, header_seconds=0.5, body_seconds=0.5, drain_seconds=3)
listening = listen("127.0.0.1", 0)
print(listening.getsockname()[1], flush=True)
serve(make_app(Model(sys.argv[1]), limits=limits), listening, limits)
"""


@pytest.fixture(scope="module")
def port(served):
    words = [sys.executable, "-c", SERVER, str(served[0].folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        yield int(server.stdout.readline())
        assert server.poll() is None  # alive after all of it
        server.terminate()
        assert server.wait(20) == 0


HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"


def sent(port, *pieces, pause=0.0, wait=8.0):
    """Send pieces, then return all that comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=wait) as s:
        try:
            for piece in pieces:
                s.sendall(piece)
                time.sleep(pause)
        except OSError:  # it closed already
            pass
        answer = b""
        try:
            while chunk := s.recv(65_536):
                answer += chunk
        except ConnectionError:
            pass
        return answer


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def test_a_body_without_end_is_cut_off(port):
    endless = [HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk(bytes(50_000))] * 40]
    assert b" 413 " in sent(port, *endless)


def test_too_large_is_said_before_it_arrives(port):
    assert b" 413 " in sent(port, HEAD + b"Content-Length: 100000000\r\n\r\n")


def test_a_slow_body_ends(port):
    slow = [HEAD + b"Content-Length: 5000\r\n\r\n", *[b"x"] * 12]
    assert b" 408 " in sent(port, *slow, pause=0.1)


def test_slow_headers_end_and_too_many_are_refused(port):
    started = time.monotonic()
    assert sent(port, b"GET / HTTP/1.1\r\n", *[b"X: y\r\n"] * 12, pause=0.1) == b""
    assert time.monotonic() - started < 5
    many = b"".join(b"X-%d: y\r\n" % i for i in range(10_000))
    assert b" 400 " in sent(port, b"GET / HTTP/1.1\r\nHost: localhost\r\n" + many + b"\r\n")


def test_a_length_that_is_wrong_or_no_http_at_all(port):
    assert b" 408 " in sent(port, HEAD + b"Content-Length: 999\r\n\r\nshort")
    assert b" 400 " in sent(port, HEAD + b"Content-Length: -1\r\n\r\n")
    assert b" 400 " in sent(port, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 3 + b"\r\n\r\n")


def test_clients_that_leave_cost_nothing(port, served):
    picture = Path(served[1][3]).read_bytes()
    whole = HEAD + b"Content-Length: %d\r\n\r\n" % len(picture) + picture
    for request in (whole, whole[:-9], HEAD):
        for _ in range(10):
            with socket.create_connection(("127.0.0.1", port)) as s:
                s.sendall(request)
    last = whole.replace(b"\r\nHost", b"\r\nConnection: close\r\nHost", 1)
    assert b" 200 " in sent(port, last)


def test_a_grey_picture_and_one_pixel_are_answered(client):
    for mode, size in (("L", (1, 1)), ("RGBA", (300, 2)), ("1", (9, 9))):
        data = io.BytesIO()
        Image.new(mode, size).save(data, "PNG")
        assert client.post("/predict", content=data.getvalue()).status_code == 200
