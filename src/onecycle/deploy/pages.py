"""The pages that are shown in front of an exported model: by a server, or from its own folder without one."""

from __future__ import annotations

from importlib import resources


def page_text(package: str, name: str) -> str:
    """Return a page of a package, with the style that it shares with the report."""
    base = resources.files("onecycle.evaluation.report").joinpath("templates", "base.css").read_text("utf-8")
    return resources.files(package).joinpath(name).read_text("utf-8").replace("/* base.css */", base)


def web_page() -> dict[str, str]:
    """Return the files of a page that predicts in the browser, by their names."""
    package = "onecycle.deploy.web"
    script = resources.files(package).joinpath("page.js").read_text("utf-8")
    return {"index.html": page_text(package, "index.html"), "page.js": script}
