"""The page: one file, whose own style and script are all that may run on it."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True)
class Page:
    """What ``GET /`` answers."""

    html: str
    policy: str  # the Content-Security-Policy that goes with it


def page() -> Page:
    """Return the page, which is the same for every model: it asks the server what that is."""
    base = resources.files("onecycle.evaluation.report").joinpath("templates", "base.css").read_text("utf-8")
    text = resources.files(__package__).joinpath("page.html").read_text("utf-8").replace("/* base.css */", base)
    return Page(
        text,
        "default-src 'none'; img-src blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        f"frame-ancestors 'none'; style-src {_hash(text, 'style')}; script-src {_hash(text, 'script')}",
    )


def _hash(text: str, element: str) -> str:
    """Return what allows the one element of this name that the page has."""
    (content,) = re.findall(f"<{element}>(.*?)</{element}>", text, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
