"""One file from one of several servers: resumed, tried again, checked, and whole under its final name."""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import queue
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from onecycle import settings
from onecycle.data.progress import download_bar
from onecycle.errors import ArgumentError, DownloadError
from onecycle.files import disk_full, free_bytes, sync_folder, write_chunks, write_whole
from onecycle.text import human_bytes, safe_text

if TYPE_CHECKING:
    import requests

_MIB = 2**20
_CHUNK = 2**17
_TIMEOUTS_S = (10.0, 60.0)  # to connect, and between two pieces of an answer
_WATCHED_S, _LEAST_RATE = 60.0, 1_000  # over so many seconds at least so many bytes a second come
_AHEAD = 8  # pieces that wait to be written
_WAITS_S = (1.0, 4.0)  # before the second and the third try of a URL


@dataclass(frozen=True)
class Check:
    """What a downloaded file must be; None means that it is not known."""

    size_bytes: int | None = None  # length of the whole file
    md5_head: str | None = None  # md5 of its first MiB, in hex
    sha256: str | None = None  # sha256 of the whole file, in hex

    def problem(self, path: Path) -> str | None:
        """How the file at `path` differs, as "expected …, got …"; None if it does not."""
        with path.open("rb") as file:
            head = hashlib.md5(file.read(_MIB), usedforsecurity=False).hexdigest()
            file.seek(0)
            whole = None if self.sha256 is None else hashlib.file_digest(file, "sha256").hexdigest()
        measured = {
            "size in bytes": (self.size_bytes, path.stat().st_size),
            "md5 of the first MiB": (self.md5_head, head),
            "sha256": (self.sha256, whole),
        }
        for name, (expected, got) in measured.items():
            if expected not in (None, got):
                return f"expected {name} {expected}, got {got}"
        return None


class _Failure(Exception):
    """One try of one URL failed; `retry` says whether another try may help."""

    def __init__(self, reason: str, *, retry: bool, cause: BaseException | None = None) -> None:
        super().__init__(safe_text(reason)[:500])  # a server may have said some of it
        self.retry = retry
        self.cause = cause


def download(urls: Sequence[str], path: Path, *, check: Check | None = None, hint: str = "") -> Path:
    """Fetch a file from the first of several addresses that gives it, whole or not at all.

    A URL is tried three times where that can help (server errors, broken connections). What arrived is kept
    in <path>.part and continued by the next try or call, if the server says that the file is the same one.

    Args:
        urls: addresses of the same file, tried in turn; at least one.
        path: where the file goes, once it is whole and checked. A file that is there is replaced.
        check: what the file must be.
        hint: what the user can do without the network, for the error message.

    Returns:
        `path`.

    Raises:
        ArgumentError: there is no URL.
        DownloadError: every URL failed; the message lists each with its reason.
        DiskFullError: there is no room for it; what arrived stays, to be continued.
    """
    partial = path.with_name(f"{path.name}.part")
    if not urls:
        raise ArgumentError(f"download needs at least one URL for {path}")
    failures: list[tuple[str, _Failure]] = []
    for url in urls:
        try:
            _fetch(url, partial, check or Check())
        except _Failure as err:
            failures.append((url, err))
        else:
            _note_of(partial).unlink(missing_ok=True)
            partial.replace(path)
            sync_folder(path.parent)
            return path
    tried = "".join(f"\n  {url}: {err}" for url, err in failures)
    _, last = failures[-1]
    raise DownloadError(f"{path.name} could not be downloaded. Tried:{tried}\n{hint}") from last.cause


def _fetch(url: str, partial: Path, check: Check) -> None:
    print(safe_text(f"Downloading {url}"))
    for wait_s in (*_WAITS_S, None):
        try:
            return _try_once(url, partial, check)
        except _Failure as err:
            if wait_s is None or not err.retry:
                raise
            print(safe_text(f"  {err}; trying again in {wait_s:g} s"))
        time.sleep(wait_s)
    return None


def _try_once(url: str, partial: Path, check: Check) -> None:
    import requests
    import urllib3

    request = _Request(url, {"Accept-Encoding": "identity", **_resume_headers(url, partial)})
    request.start()
    try:
        answer = request.answer()
        start = _start_of(answer, url, partial, check)
        _receive(answer, request, partial, start, check)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as err:
        cause: BaseException = err  # the first one below their wrappers says what happened in one line
        while isinstance(cause.__context__, (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError)):
            cause = cause.__context__
        cause = cause.with_traceback(None)
        raise _Failure(f"{type(cause).__name__}: {cause}", retry=True, cause=cause) from err
    finally:
        request.ended.set()
    if problem := check.problem(partial):
        _drop(partial)
        # Two halves of different files, joined, deserve one clean start; the same wrong file twice does not.
        raise _Failure(f"the file is not the expected one: {problem}", retry=start > 0)


def _note_of(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.json")


def _drop(partial: Path) -> None:
    partial.unlink(missing_ok=True)
    _note_of(partial).unlink(missing_ok=True)


def _resume_headers(url: str, partial: Path) -> dict[str, str]:
    """Ask for the rest of a partial file, if it is known which file of which URL it is a part of."""
    try:
        note = json.loads(_note_of(partial).read_text(encoding="utf-8"))
        have = partial.stat().st_size
        if have and note["url"] == url and note["validator"]:
            return {"Range": f"bytes={have}-", "If-Range": str(note["validator"])}
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no partial file, or a note that cannot be read: start anew
    return {}


def _validator(answer: requests.Response) -> str:
    """What names this version of the file: a strong ETag, else the date; "" if the server gives neither."""
    etag = answer.headers.get("ETag", "")
    return etag if etag.startswith('"') else answer.headers.get("Last-Modified", "")


def _start_of(answer: requests.Response, url: str, partial: Path, check: Check) -> int:
    """Judge the status and headers; return the byte that the body starts at."""
    status = answer.status_code
    if status == 206 and _continues(answer, partial):
        return partial.stat().st_size
    if status in (206, 416):  # whatever is here does not fit what the server has now
        _drop(partial)
        raise _Failure("the server cannot continue the partial file", retry=True)
    if status != 200:
        raise _Failure(f"HTTP {status} {answer.reason}", retry=status in (408, 425, 429) or status >= 500)
    length = _length(answer)
    if length is not None and check.size_bytes not in (None, length):
        raise _Failure(f"expected size in bytes {check.size_bytes}, the server offers {length}", retry=False)
    _drop(partial)
    note = {"url": url, "validator": _validator(answer)}
    write_whole(_note_of(partial), json.dumps(note).encode())
    return 0


def _continues(answer: requests.Response, partial: Path) -> bool:
    """Whether a partial answer starts where the partial file ends, and is of the same version of the file."""
    asked = answer.request.headers.get("If-Range")
    if asked is None or _validator(answer) not in ("", asked):
        return False
    return answer.headers.get("Content-Range", "").startswith(f"bytes {partial.stat().st_size}-")


def _length(answer: requests.Response) -> int | None:
    length = answer.headers.get("Content-Length", "")
    return int(length) if re.fullmatch("[0-9]{1,18}", length) else None


def _receive(answer: requests.Response, request: _Request, partial: Path, start: int, check: Check) -> None:
    length = _length(answer)
    total = None if length is None else start + length
    free = free_bytes(partial)
    if length is not None and free is not None and length > free:
        raise disk_full(OSError(errno.ENOSPC, ""), partial, total)
    most = settings.download_bytes() if total is None and check.size_bytes is None else None
    got = start
    bar = download_bar(partial.stem, total, start)
    with write_chunks(partial, append=True, n_bytes=total) as write, bar as advance:
        for chunk in request.chunks():
            write(chunk)
            advance(len(chunk))
            got += len(chunk)
            if check.size_bytes is not None and got > check.size_bytes:
                break  # an answer without an end; the check of the size tells
            if most is not None and got > most:
                break
    if most is not None and got > most:
        _drop(partial)
        raise _Failure(
            f"the server does not say how long the file is, and sent more than {human_bytes(most)}; "
            "the environment variable ONECYCLE_DOWNLOAD_GB allows more",
            retry=False,
        )
    if total is not None and got < total:
        raise _Failure(f"the connection ended after {got:,} of {total:,} bytes", retry=True)


class _Request(threading.Thread):
    """Asks a server, in a thread of its own: one that sends a byte a minute, of its headers too, holds nobody.

    Args:
        url: what is asked for.
        headers: of the request.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        super().__init__(daemon=True, name=f"download of {url}")
        self.url, self.headers = url, dict(headers)
        self.ended = threading.Event()  # nobody waits for more
        self._came: queue.Queue[Any] = queue.Queue(maxsize=_AHEAD)

    def run(self) -> None:
        """Put the answer, its pieces, and None or what went wrong into the queue."""
        import requests

        try:
            with requests.get(self.url, headers=self.headers, stream=True, timeout=_TIMEOUTS_S) as answer:
                self._put(answer)
                # Undecoded: some servers call a .tgz "Content-Encoding: gzip", and it must stay compressed.
                while not self.ended.is_set() and (chunk := answer.raw.read1(_CHUNK, decode_content=False)):
                    self._put(chunk)
            self._put(None)
        except BaseException as error:  # noqa: BLE001 - raised where the pieces are taken
            self._put(error)

    def _put(self, item: object) -> None:
        while not self.ended.is_set():
            with suppress(queue.Full):
                return self._came.put(item, timeout=0.1)
        return None

    def answer(self) -> requests.Response:
        """Return the answer once its headers are there.

        Raises:
            _Failure: they take too long; and what ``requests`` raises.
        """
        try:
            came = self._came.get(timeout=sum(_TIMEOUTS_S))
        except queue.Empty:
            raise _Failure("TimeoutError: no whole answer in time", retry=True) from None
        return cast("requests.Response", self._checked(came))

    def chunks(self) -> Iterator[bytes]:
        """Return the pieces of the body as they come.

        Raises:
            _Failure: over a while they are fewer bytes than are worth waiting for; and what ``requests`` raises.
        """
        begun, n_bytes = time.monotonic(), 0
        while True:
            with suppress(queue.Empty):
                chunk = self._checked(self._came.get(timeout=max(0.01, begun + _WATCHED_S - time.monotonic())))
                if chunk is None:
                    return
                n_bytes += len(chunk)
                yield chunk
            if (took := time.monotonic() - begun) >= _WATCHED_S:
                if n_bytes < _LEAST_RATE * took:
                    raise _Failure(f"slower than {_LEAST_RATE:,} bytes a second for {took:.0f} s", retry=True)
                begun, n_bytes = time.monotonic(), 0

    def _checked(self, came: Any) -> Any:
        if isinstance(came, BaseException):
            raise came
        return came
