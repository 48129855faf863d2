"""Downloads from a real web server on this machine."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from web_server import Answer, Server, cut, planet_files, send, stalled, status, tree, whole

from onecycle import settings
from onecycle.data.sources import downloads
from onecycle.data.sources import untar as sources
from onecycle.data.sources.downloads import Check, download
from onecycle.data.sources.untar import URLs, untar_data
from onecycle.errors import ArchiveError, ArgumentError, DiskFullError, DownloadError

# ---------------------------------------------------------------- downloading


def test_resume_after_a_cut_connection(server: Server, data: Path) -> None:
    server.script = [cut(20_000)]
    assert tree(untar_data(server.planet)) == planet_files()
    assert server.asked == [("/data/planet_tiny.tgz", None), ("/data/planet_tiny.tgz", "bytes=20000-")]


def test_resume_in_a_later_call(server: Server, data: Path) -> None:
    server.script = [cut(20_000), status(500), status(500)]
    with pytest.raises(DownloadError, match="HTTP 500"):
        untar_data(server.planet)
    assert sorted(p.name for p in data.iterdir()) == ["planet_tiny.tgz.part", "planet_tiny.tgz.part.json"]
    assert tree(untar_data(server.planet)) == planet_files()
    assert server.asked[-1] == ("/data/planet_tiny.tgz", "bytes=20000-")
    assert sorted(p.name for p in data.iterdir()) == ["planet_tiny", "planet_tiny.tgz"]


@pytest.mark.parametrize("again", [whole, status(416)], ids=["no ranges", "416"])
def test_a_server_that_cannot_continue_starts_anew(server: Server, data: Path, again: Answer) -> None:
    server.script = [cut(20_000), again]
    assert tree(untar_data(server.planet)) == planet_files()


def test_another_version_is_not_joined_to_the_first_half(server: Server, data: Path) -> None:
    def newer(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        start = int(handler.headers["Range"][6:-1])
        send(handler, 206, body[start:], ETag='"v2"', Content_Range=f"bytes {start}-{len(body) - 1}/*")

    server.script = [cut(20_000), newer]
    assert tree(untar_data(server.planet)) == planet_files()
    assert [asked for _, asked in server.asked] == [None, "bytes=20000-", None]


def test_a_part_that_was_not_asked_for_is_refused(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(b"1234")
    server.script = [lambda handler, body: send(handler, 206, body, ETag="", Content_Range="bytes 4-9/10")]
    assert download([f"{server.url}/a"], tmp_path / "a").read_bytes() == server.body


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_without_a_validator_nothing_is_continued(server: Server, data: Path, etag: str) -> None:
    server.script = [cut(20_000, ETag=etag)]
    assert tree(untar_data(server.planet)) == planet_files()
    assert [asked for _, asked in server.asked] == [None, None]


@pytest.mark.parametrize("first", [status(500), status(503), status(429), cut(0), stalled])
def test_a_passing_trouble_is_tried_again(server: Server, data: Path, first: Answer) -> None:
    server.script = [first, first]
    assert tree(untar_data(server.planet)) == planet_files()
    assert len(server.asked) == 3


def test_three_tries_then_an_error(server: Server, data: Path) -> None:
    server.script = [status(500)] * 9
    with pytest.raises(DownloadError, match="HTTP 500"):
        untar_data(server.planet)
    assert len(server.asked) == 3


def test_not_found_is_not_tried_again(server: Server, data: Path) -> None:
    server.script = [status(404)] * 9
    with pytest.raises(DownloadError, match="HTTP 404"):
        untar_data(server.planet)
    assert len(server.asked) == 1


def test_redirect(server: Server, data: Path) -> None:
    server.script = [lambda handler, _: send(handler, 302, b"", Location="/elsewhere/x.bin")]
    assert tree(untar_data(server.planet)) == planet_files()
    assert server.asked[1][0] == "/elsewhere/x.bin"


def test_a_server_that_names_the_gzip_as_encoding(server: Server, data: Path) -> None:
    server.script = [lambda handler, body: send(handler, 200, body, Content_Encoding="gzip")]
    assert tree(untar_data(server.planet)) == planet_files()
    assert (data / "planet_tiny.tgz").read_bytes() == server.body


def test_mirrors_come_first_and_in_turn(server: Server, data: Path) -> None:
    settings.config_file().write_text(f"mirrors = ['{server.url}/m1', '{server.url}/m2/']")
    server.script = [status(404), status(403)]
    assert tree(untar_data(server.planet)) == planet_files()
    assert [path for path, _ in server.asked] == ["/m1/planet_tiny.tgz", "/m2/planet_tiny.tgz", "/data/planet_tiny.tgz"]


def test_a_known_set_is_checked_on_a_mirror_too(server: Server, data: Path) -> None:
    settings.config_file().write_text(f"mirrors = ['{server.url}']")
    with pytest.raises(DownloadError) as caught:
        download([f"{server.url}/x"], data.parent / "x", check=sources._CHECKS[URLs.PLANET_TINY])
    assert f"expected size in bytes 997569, the server offers {len(server.body)}" in str(caught.value)


def test_a_known_archive_that_is_another_file(data: Path, server: Server) -> None:
    data.mkdir()
    (data / "planet_tiny.tgz").write_bytes(server.body)
    with pytest.raises(DownloadError, match=r"expected size in bytes 997569.*force_download=True"):
        untar_data(URLs.PLANET_TINY)
    assert (data / "planet_tiny.tgz").read_bytes() == server.body


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (Check(size_bytes=7), "expected size in bytes 7, "),
        (Check(md5_head="0" * 32), f"expected md5 of the first MiB {'0' * 32}, got "),
        (Check(sha256="1" * 64), f"expected sha256 {'1' * 64}, got "),
    ],
)
@pytest.mark.parametrize("length", [True, False])
def test_a_wrong_file_never_gets_its_name(
    server: Server, tmp_path: Path, check: Check, said: str, length: bool
) -> None:
    if not length:
        server.script = [lambda handler, body: send(handler, 200, body, Content_Length="")]
    with pytest.raises(DownloadError) as caught:
        download([f"{server.url}/a.bin"], tmp_path / "a.bin", check=check, hint="Do this next")
    assert said in str(caught.value)
    assert f"{server.url}/a.bin: " in str(caught.value)
    assert str(caught.value).endswith("Do this next")
    assert list(tmp_path.iterdir()) == []
    assert len(server.asked) == 1


def test_the_right_hash_passes(server: Server, data: Path) -> None:
    sha256 = hashlib.sha256(server.body).hexdigest()
    assert tree(untar_data(server.planet, known_hash=f"sha256:{sha256}")) == planet_files()
    check = Check(len(server.body), hashlib.md5(server.body[: 2**20]).hexdigest(), sha256)
    assert check.problem(data / "planet_tiny.tgz") is None


def test_known_hash_must_be_a_sha256(server: Server) -> None:
    with pytest.raises(ArgumentError, match="64 hex digits, received 'md5:abc'"):
        untar_data(server.planet, known_hash="md5:abc")


def test_a_wrong_half_is_fetched_again_from_the_start(server: Server, tmp_path: Path) -> None:
    server.script = [cut(20_000)]
    check = Check(sha256=hashlib.sha256(server.body).hexdigest())
    server.script += [status(404)]
    with pytest.raises(DownloadError):
        download([f"{server.url}/a"], tmp_path / "a", check=check)
    (tmp_path / "a.part").write_bytes(bytes(20_000))
    assert download([f"{server.url}/a"], tmp_path / "a", check=check).read_bytes() == server.body
    assert [asked for _, asked in server.asked] == [None, "bytes=20000-", "bytes=20000-", None]


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"url": 3, "validator": "x"}'])
def test_a_note_that_cannot_be_read_starts_anew(server: Server, tmp_path: Path, note: str) -> None:
    (tmp_path / "a.part").write_bytes(b"junk")
    (tmp_path / "a.part.json").write_text(note)
    assert download([f"{server.url}/a"], tmp_path / "a").read_bytes() == server.body


def test_offline_says_what_was_tried_and_what_to_do(server: Server, data: Path) -> None:
    settings.config_file().write_text(f"mirrors = ['{server.url}/m1']")
    server.stop()
    with pytest.raises(DownloadError) as caught:
        untar_data(server.planet)
    said = str(caught.value)
    for part in (
        "planet_tiny.tgz could not be downloaded",
        f"{server.url}/m1/planet_tiny.tgz: ConnectionRefusedError",
        f"{server.planet}.tgz: ConnectionRefusedError",
        f"put the unpacked folder at {data / 'planet_tiny'}",
        f"the archive at {data / 'planet_tiny.tgz'}",
        "ONECYCLE_DATA",
        str(settings.config_file()),
    ):
        assert part in said
    assert "urllib3" not in said
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    assert caught.value.__cause__.__context__ is None
    assert list(data.iterdir()) == []


def test_an_unknown_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(downloads, "_WAITS_S", ())
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(DownloadError, match="gaierror"):
        download(["http://no-such-host.invalid/x"], tmp_path / "x")


def test_download_needs_a_url(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="at least one URL"):
        download([], tmp_path / "x")


def test_a_page_instead_of_an_archive_is_not_kept(server: Server, data: Path) -> None:
    server.body = b"<html>Please log in</html>" * 100
    with pytest.raises(ArchiveError, match="no tar or zip header"):
        untar_data(server.planet)
    assert list(data.iterdir()) == []


def test_the_bar_shows_in_a_terminal(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    download([f"{server.url}/planet.bin"], tmp_path / "planet.bin")
    assert "planet.bin" in capsys.readouterr().out.split("\n", 1)[1]


# ---------------------------------------------------------------- servers that never end, drip, lie


def endless(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    handler.send_response(200)
    handler.end_headers()
    with suppress(OSError):  # who was answered hangs up
        for _ in range(500):
            handler.wfile.write(b"x" * 100_000)


def dripping(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    drip(handler, body)


def dripping_headers(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    drip(handler, b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 1000)


def drip(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    with suppress(OSError):
        for i in range(60):
            handler.wfile.write(data[i : i + 1])
            handler.wfile.flush()
            threading.Event().wait(0.05)


def test_a_file_of_unknown_length_has_a_limit_that_can_be_raised(server: Server, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("ONECYCLE_DOWNLOAD_GB", "0.001")
    server.script = [endless]
    with pytest.raises(DownloadError, match=r"does not say how long .* sent more than 1 MB; .*ONECYCLE_DOWNLOAD_GB"):
        download([f"{server.url}/a"], tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
    assert len(server.asked) == 1
    monkeypatch.setenv("ONECYCLE_DOWNLOAD_GB", "1")
    server.script = [endless]
    assert download([f"{server.url}/a"], tmp_path / "a").stat().st_size == 50_000_000


def test_a_file_of_known_length_is_not_held_to_that_limit(server: Server, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("ONECYCLE_DOWNLOAD_GB", "0")
    assert download([f"{server.url}/a"], tmp_path / "a").read_bytes() == server.body


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(dripping, "slower than 1,000 bytes a second"), (dripping_headers, "no whole answer in time")],
)
def test_a_server_that_drips_is_left(server: Server, tmp_path: Path, monkeypatch, answer: Answer, reason: str) -> None:
    monkeypatch.setattr(downloads, "_WATCHED_S", 0.3)
    server.script = [answer] * 3
    begun = time.monotonic()
    with pytest.raises(DownloadError, match=reason):
        download([f"{server.url}/a"], tmp_path / "a")
    assert time.monotonic() - begun < 20
    assert len(server.asked) >= (3 if answer is dripping else 0)


def test_a_slow_start_is_forgiven(server: Server, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(downloads, "_WATCHED_S", 0.3)

    def later(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        threading.Event().wait(0.2)
        whole(handler, body)

    server.script = [later]
    assert download([f"{server.url}/a"], tmp_path / "a").read_bytes() == server.body
    assert len(server.asked) == 1


def test_a_length_that_the_disk_has_no_room_for_is_refused_at_once(server: Server, tmp_path: Path) -> None:
    server.script = [lambda handler, body: send(handler, 200, body[:10], Content_Length=str(10**18 - 1))] * 3
    with pytest.raises(DiskFullError, match=r"needs 1,000,000,000\.0 GB"):
        download([f"{server.url}/a"], tmp_path / "a")


@pytest.mark.parametrize("length", ["9" * 5000, "-5", "\xb2", "1e9"])
def test_a_length_that_is_no_number_is_no_defect(server: Server, tmp_path: Path, length: str) -> None:
    server.script = [lambda handler, body: send(handler, 200, body[:10], Content_Length=length)] * 3
    with pytest.raises(DownloadError):
        download([f"{server.url}/a"], tmp_path / "a", check=Check(size_bytes=5))


def test_what_a_server_says_does_not_act(server: Server, tmp_path: Path, capsys) -> None:
    def rude(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        handler.wfile.write(b"HTTP/1.1 404 \x1b[31mno\x1b]0;t\x07\r\nContent-Length: 0\r\n\r\n")

    server.script = [rude]
    with pytest.raises(DownloadError) as caught:
        download([f"{server.url}/a\x1b[31m"], tmp_path / "a")
    assert "\x1b" not in capsys.readouterr().out
    assert "\x1b[31mno" not in str(caught.value)


def test_fastai_v1s_addresses_are_asked_by_https(tmp_path: Path) -> None:
    source = sources._Source.of("http://files.fast.ai/data/examples/planet_sample", None)
    assert source.url == "https://files.fast.ai/data/examples/planet_sample.tgz"
    assert source.check.size_bytes == 15_523_994
