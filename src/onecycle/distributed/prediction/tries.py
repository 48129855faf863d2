"""What is noted while a chunk is predicted, so that a picture that ends the process is known by the next one.

The notes are a small file that any process of any machine can go on with. The first try notes that it began. Where it
ended early, the next one reads the pictures one at a time and notes each before it is read; the one that was noted
last, and not read, ended it. Three such ends set a picture aside.
"""

from __future__ import annotations

import os
import secrets
from collections import Counter
from pathlib import Path

MOST_TRIES = 3
"""Times that a picture may end its process."""

_NOTHING = "-"
"""The note that no picture is being read."""


class Tries:
    """The notes of a chunk's tries.

    Args:
        path: of their file; it need not be there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None
        self._name = secrets.token_hex(4)  # of this try
        last: dict[str, str] = {}
        if path.is_file():
            lines = (line.split() for line in path.read_text(encoding="ascii", errors="replace").splitlines())
            last = {words[0]: words[1] for words in lines if len(words) == 2}
        self.n_before = len(last)  # tries that did not come to their end
        ends = Counter(int(note) for note in last.values() if note.isdecimal())
        self.set_aside = sorted(position for position, n in ends.items() if n >= MOST_TRIES)  # positions in the chunk

    def begin(self) -> None:
        """Note that a try begins."""
        self.path.parent.mkdir(exist_ok=True)
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        self.note(None)

    def note(self, position: int | None) -> None:
        """Note the picture that is read next; None: none is being read."""
        if self._file is not None:
            os.write(self._file, f"{self._name} {_NOTHING if position is None else position}\n".encode())

    def end(self) -> None:
        """Close the notes."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def forget(self) -> None:
        """Remove them: the part is there."""
        self.end()
        self.path.unlink(missing_ok=True)
