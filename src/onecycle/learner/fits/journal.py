"""What a recipe measured, drew or computed at a cost: made once, and taken as it was where the recipe runs again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from onecycle.errors import DataError
from onecycle.files import write_whole
from onecycle.foreign import Refused, fitted, read_plain, strict_json
from onecycle.train.device.ranks import Ranks

_MOST_BYTES = 2**28


class Journal:
    """A journal that keeps nothing: what is asked for is made, and all processes take what the first one made.

    Args:
        ranks: the processes that train together.
    """

    def __init__(self, ranks: Ranks | None = None) -> None:
        self.ranks = ranks or Ranks()

    def once(self, key: str, make: Callable[[], Any], kind: Any) -> Any:
        """Return what is known by a key, else make it: values that JSON can hold, and as JSON gives them back.

        Args:
            key: of the value.
            make: called where nothing is known by it.
            kind: what the value must be, as ``fitted`` takes it: anybody may have written what is known.
        """
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
        if os.path.lexists(path):
            try:
                self.values = strict_json(read_plain(path, _MOST_BYTES), str(path), finite=False)
                fitted(dict[str, Any], self.values, str(path))
            except (OSError, Refused) as error:
                raise self._damaged(error) from error
        self.values = self.ranks.of_first(self.values)

    def once(self, key: str, make: Callable[[], Any], kind: Any) -> Any:
        """Return what is known by a key, else make it and write it down.

        Raises:
            DataError: what is known is no such value; its place is named.
        """
        if key not in self.values:
            self.values = {**self.values, key: super().once(key, make, kind)}
            if self.ranks.is_first:
                write_whole(
                    self.path, json.dumps(self.values, ensure_ascii=False, indent=1).encode("utf-8", "surrogateescape")
                )
        try:
            fitted(kind, self.values[key], f"{self.path}, {key}")
        except Refused as error:
            raise self._damaged(error) from None
        return self.values[key]

    def knows(self, key: str) -> bool:
        """Whether a key was asked for in this run before."""
        return key in self.values

    def _damaged(self, error: Exception) -> DataError:
        return DataError(f"{self.path} is damaged ({error}); remove it, and training begins again")


def plain(value: Any) -> Any:
    """Return values as JSON gives them back: lists for tuples; numbers stay the same to the last bit, NaN too."""
    return json.loads(json.dumps(value))
