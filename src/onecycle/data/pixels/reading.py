"""How files become pixels where the usual way is not meant: by a function of the user's, or with one channel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from onecycle.data.pixels.decode import decode_for
from onecycle.data.pixels.picture_file import UNREADABLE, Source
from onecycle.data.pixels.resize import ResizeSpec, resize_pixels
from onecycle.errors import ArgumentError

if TYPE_CHECKING:
    from onecycle.data.pixels.image import Image


@dataclass(frozen=True)
class Reading:
    """How the files of a data set are read, for training and prediction alike."""

    function: Callable[[Any], Any] | None = None  # a path → an Image, or pixels as an Image takes them; None: as usual
    channels: int = 3  # that the network sees: 3, or 1 where pictures are grey

    def pixels(self, source: Source, spec: ResizeSpec) -> np.ndarray:
        """Read a file and bring it to a size: uint8 ``(h, w, 3)``, as ``decode_for`` returns it.

        Raises:
            OSError, ValueError: as ``decode_for``; and for whatever the user's function raises.
        """
        if self.function is None:
            return decode_for(source, spec)
        return resize_pixels(self.image(source).numpy(), spec)

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
