"""What a recipe measured, drew or computed at a cost: made once, and taken as it was where the recipe runs again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from onecycle.errors import DataError
from onecycle.files import write_whole
from onecycle.train.device.ranks import Ranks


class Journal:
    """A journal that keeps nothing: what is asked for is made, and all processes take what the first one made.

    Args:
        ranks: the processes that train together.
    """

    def __init__(self, ranks: Ranks | None = None) -> None:
        self.ranks = ranks or Ranks()

    def once(self, key: str, make: Callable[[], Any]) -> Any:
        """Return what is known by a key, else make it: values that JSON can hold, and as JSON gives them back."""
        return self.ranks.of_first(make())

    def knows(self, key: str) -> bool:
        """Whether a key was asked for in this run before."""
        return False


class FileJournal(Journal):
    """A journal in a file, which is written whole with every new value.

    Args:
        path: of the file; what is in it is known. Of several processes that train together, the first one writes it.
        ranks: these.

    Raises:
        DataError: a damaged file.
    """

    def __init__(self, path: Path, ranks: Ranks | None = None) -> None:
        super().__init__(ranks)
        self.path = path
        self.values: dict[str, Any] = {}
        if path.exists():
            try:
                self.values = dict(json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError) as error:
                raise DataError(f"{path} is damaged ({error}); remove it, and training begins again") from error
        self.values = self.ranks.of_first(self.values)

    def once(self, key: str, make: Callable[[], Any]) -> Any:
        """Return what is known by a key, else make it and write it down."""
        if key not in self.values:
            self.values = {**self.values, key: super().once(key, make)}
            if self.ranks.is_first:
                write_whole(self.path, json.dumps(self.values, ensure_ascii=False, indent=1).encode())
        return self.values[key]

    def knows(self, key: str) -> bool:
        """Whether a key was asked for in this run before."""
        return key in self.values


def plain(value: Any) -> Any:
    """Return values as JSON gives them back: lists for tuples; numbers stay the same to the last bit, NaN too."""
    return json.loads(json.dumps(value))
