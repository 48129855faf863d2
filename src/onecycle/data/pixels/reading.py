"""How files become pixels where the usual way is not meant: by a function of the user's, or in another mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image

from onecycle.data.pixels.decode import decode_for
from onecycle.data.pixels.picture_file import UNREADABLE, Source
from onecycle.data.pixels.resize import ResizeSpec, resize_pixels
from onecycle.errors import ArgumentError, CheckpointError

if TYPE_CHECKING:
    from onecycle.data.pixels.image import Image


@dataclass(frozen=True)
class Reading:
    """How the files of a data set are read, for training and prediction alike."""

    function: Callable[[Any], Any] | None = None  # a path → an Image, or pixels as an Image takes them; None: as usual
    channels: int = 3  # that the network sees; of 1, pixels are kept with three equal ones
    name: str = ""  # of the function, by which an export says what read its pictures
    grey: bool = False  # without a function: pictures are made grey, as Pillow's mode L

    @property
    def stored_channels(self) -> int:
        """Channels of the pixels that are kept."""
        return max(self.channels, 3)

    def pixels(self, source: Source, spec: ResizeSpec) -> np.ndarray:
        """Read a file and bring it to a size: uint8 ``(h, w, stored_channels)``.

        Raises:
            OSError, ValueError: as ``decode_for``; and for whatever the user's function raises.
        """
        if self.function is None:
            pixels = decode_for(source, spec)
            return greyed(pixels) if self.grey else pixels
        return resize_pixels(self.fitted(self.image(source).numpy(), f"what {self.name} gave"), spec)

    def fitted(self, pixels: np.ndarray, what: str) -> np.ndarray:
        """Return uint8 ``(H, W, C)`` with as many channels as are kept; one stands for three.

        Raises:
            ValueError: another number of channels; ``what`` names the picture.
        """
        if pixels.shape[2] == 1:
            return np.repeat(pixels, 3, axis=2)
        if pixels.shape[2] != self.stored_channels:
            raise ValueError(f"{what} has {pixels.shape[2]} channels, and the data have {self.channels}")
        return pixels

    def image(self, source: Source) -> Image:
        """Call the user's function on a file."""
        if self.function is None:
            raise ArgumentError("these pictures are read in the usual way: use open_image")
        from onecycle.data.pixels.image import Image  # which loads torch

        try:
            made = self.function(source)
            return made if isinstance(made, Image) else Image(made)
        except UNREADABLE:
            raise
        except Exception as error:  # one bad file is one bad file, whatever a function of the user's raises
            name = getattr(self.function, "__qualname__", type(self.function).__name__)
            raise ValueError(f"{name} raised {type(error).__name__}: {error}") from error

    def manifest(self) -> dict[str, Any]:
        """Return what is saved of this with a model, as JSON can hold it; nothing of the usual way."""
        if self == Reading():
            return {}
        return {"reading": {"function": self.name or None, "channels": self.channels, "grey": self.grey}}

    @classmethod
    def from_manifest(
        cls, saved: Mapping[str, Any] | None, of: str, function: Callable[[Any], Any] | None = None
    ) -> Reading:
        """Read what ``manifest`` wrote.

        Args:
            saved: the entry of a file, None where it has none.
            of: what to call that file.
            function: of the user's, where one read the pictures.

        Raises:
            CheckpointError: a function of the user's read them, and none is given.
        """
        if saved is None:
            return cls()
        if saved["function"] and function is None:
            raise CheckpointError(
                f"the pictures of {of} were read by {saved['function']}, a function of the notebook, which is in no "
                "file: pass it again, load_learner(path, reader=...), a function from a path to an Image"
            )
        return cls(function if saved["function"] else None, saved["channels"], saved["function"] or "", saved["grey"])

    def asked(self, sources: Sequence[Source]) -> Reading:
        """Return this with the number of channels that the function gives, asked with the first readable source."""
        for source in sources[:_ASKED]:
            try:
                return replace(self, channels=self.image(source).n_channels)
            except UNREADABLE:
                continue
        return self


_ASKED = 8
"""Sources that are tried; where none can be read, the list of all that cannot is said elsewhere."""


def greyed(pixels: np.ndarray) -> np.ndarray:
    """Return uint8 ``(H, W, 3)`` in Pillow's mode L, in three equal channels."""
    grey = np.asarray(PIL.Image.fromarray(pixels).convert("L"))
    return np.repeat(grey[..., None], 3, axis=2)
