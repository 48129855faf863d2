"""A web server that misbehaves on demand, and archives made in memory, for the tests of data sources."""

from __future__ import annotations

import io
import tarfile
import threading
import zipfile
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random

Answer = Callable[[BaseHTTPRequestHandler, bytes], None]
FILES = {
    "planet_tiny/labels.csv": b"image_name,tags\na,clear\n",
    "planet_tiny/train/a.jpg": Random(0).randbytes(50_000),
}


# ---------------------------------------------------------------- a server that misbehaves on demand


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content_Length": str(len(body)), "ETag": '"v1"', **headers}.items():
        if value:
            handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def whole(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    send(handler, 200, body)


def ranged(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    asked = handler.headers.get("Range")
    if asked is None or handler.headers.get("If-Range") != '"v1"':
        return whole(handler, body)
    start = int(asked.removeprefix("bytes=").removesuffix("-"))
    return send(handler, 206, body[start:], Content_Range=f"bytes {start}-{len(body) - 1}/{len(body)}")


def cut(n: int, **headers: str) -> Answer:
    """Promise the whole, send n bytes, hang up."""
    return lambda handler, body: send(handler, 200, body[:n], Content_Length=str(len(body)), **headers)


def stalled(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    cut(100)(handler, body)
    handler.wfile.flush()
    threading.Event().wait(0.8)


def status(code: int) -> Answer:
    return lambda handler, _: send(handler, code, b"no")


class Server:
    """Gives `body` for every path; the answers of `script` come first, then `ranged` for ever."""

    def __init__(self) -> None:
        self.body = b""
        self.script: list[Answer] = []
        self.asked: list[tuple[str, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append((self.path, self.headers.get("Range")))
                (outer.script.pop(0) if outer.script else ranged)(self, outer.body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.planet = f"{self.url}/data/planet_tiny"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def stop(self) -> None:
        if self.thread.is_alive():
            self.http.shutdown()
            self.http.server_close()
            self.thread.join()


def tgz(files: dict[str, bytes], *, mode: str = "w:gz", form: int = tarfile.PAX_FORMAT) -> bytes:
    members = [member(name, content) for name, content in files.items()]
    return tar(*members, mode=mode, form=form)


def member(name: str, content: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def tar(*members: tuple[tarfile.TarInfo, bytes], mode: str = "w:gz", form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=form) as out:  # type: ignore[call-overload]
        for info, content in members:
            out.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def planet_files() -> dict[str, bytes]:
    return {name.removeprefix("planet_tiny/"): content for name, content in FILES.items()}


def zipped(files: dict[str, bytes], **attributes: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            for key, value in attributes.items():
                setattr(info, key, value)
            out.writestr(info, content)
    return buffer.getvalue()
