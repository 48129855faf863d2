"""The page of ``onecycle serve`` in a real browser: pictures in, answers out, nothing to anywhere else."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from exported_toys import CLASSES, toy_files, toy_predictor

pytestmark = pytest.mark.browser
playwright = pytest.importorskip("playwright.sync_api", reason="install onecycle[browser]")
pytest.importorskip("python_multipart", reason="needs the extra serve")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no chromium on PATH")
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with playwright.sync_playwright() as p:
        started = p.chromium.launch(executable_path=CHROMIUM, args=[*quiet, "--disable-sync", "--no-first-run"])
        yield started
        started.close()


@pytest.fixture(scope="module", params=[False, True], ids=["classes", "tags"])
def site(request, tmp_path_factory):
    """A running server: its address, pictures, the folder that it collects into, whether it predicts tags."""
    from dataclasses import replace

    from onecycle.deploy.bundle import export_bundle
    from onecycle.deploy.card import Card

    folder = tmp_path_factory.mktemp("site")
    files = toy_files(folder)
    predictor = replace(toy_predictor(is_multi=request.param), classes=(HOSTILE, *CLASSES[1:]))
    ends = {"value": 0.91, "low": 0.84, "high": 0.95}
    quality = [{"class": c, "precision": ends, "recall": ends, "grade": "trust"} for c in predictor.classes]
    card = Card(name="toy", class_quality=tuple(quality))
    made = export_bundle(predictor, folder / "model", files, card, archive=False)
    words = [sys.executable, "-m", "onecycle", "serve", str(made.folder), "--port", "0", "--json", "--token", "s3cret"]
    with subprocess.Popen([*words, "--collect", str(folder / "kept")], stdout=subprocess.PIPE, text=True) as server:
        yield json.loads(server.stdout.readline())["url"], files, folder / "kept", request.param
        server.terminate()
        assert server.wait(20) == 0


@pytest.fixture
def page(browser, site, request):
    options = getattr(request, "param", {})
    context = browser.new_context(**options)
    page = context.new_page()
    wrong = []
    page.on("pageerror", lambda e: wrong.append(str(e)))
    page.on("dialog", lambda d: (wrong.append(d.message), d.dismiss()))
    page.on("request", lambda r: None if r.url.startswith((site[0], "blob:", "data:")) else wrong.append(r.url))
    page.goto(site[0])
    page.get_by_label("This server needs its token").fill("other")
    page.keyboard.press("Enter")
    page.get_by_text("That is not the token").wait_for()
    page.get_by_label("This server needs its token").fill("s3cret")
    page.keyboard.press("Enter")
    page.locator("#choose").wait_for()
    yield page
    context.close()
    assert wrong == []


def classify(page, files):
    page.set_input_files("#files", files)
    page.get_by_text(f"{len(files)} of {len(files)} pictures answered").wait_for()


def test_labels_are_shown_with_how_often_they_are_right(page, site, tmp_path):
    (tmp_path / "notes.jpg").write_text("no picture")
    classify(page, [*site[1][:2], str(tmp_path / "notes.jpg")])
    assert page.locator("#answers > li").count() == 3
    assert page.locator("#answers img").count() == 2  # the third has no preview
    assert "right 91 % of the time (84 to 95)" in page.locator("#answers > li").nth(1).inner_text()
    assert "not a picture" in page.locator(".failed").inner_text()
    page.get_by_role("button", name="Remove all").click()
    assert page.locator("#answers > li").count() == 0
    assert page.evaluate("document.activeElement.id") == "choose"


def test_a_map_of_where_a_label_comes_from_is_shown_on_request(page, site):
    classify(page, site[1][:2])
    assert page.locator("canvas").count() == 0
    button = page.locator("#answers").get_by_role("button", name="Show where").first
    button.press("Enter")
    said = page.locator(".map")
    said.get_by_text("matter").wait_for()
    assert "goes from" in said.inner_text() or "stays at" in said.inner_text()
    assert page.get_by_role("img", name="Map of where").count() == ("goes from" in said.inner_text())
    assert button.get_attribute("aria-pressed") == "true"
    button.press("Enter")
    assert page.locator("canvas, .map").count() == 0
    assert button.get_attribute("aria-pressed") == "false"


def test_what_is_right_is_kept_for_relabel(page, site):
    _, files, kept, is_multi = site
    classify(page, files[:2])
    page.locator("summary", has_text="Say what is right").first.press("Enter")
    first = page.locator("#answers > li").first
    if is_multi:
        first.get_by_label(HOSTILE).set_checked(True)
    else:
        first.get_by_label("Label:").select_option(HOSTILE)
    first.get_by_role("button", name="Keep it").press("Enter")
    first.get_by_text("Kept.").wait_for()
    with (kept / "labels.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 1
    (picture,) = (kept / "pictures").iterdir()
    assert picture.read_bytes() == Path(files[1]).read_bytes()  # the latest is shown first


@pytest.mark.parametrize(
    "page",
    [{"bypass_csp": True}, {"bypass_csp": True, "color_scheme": "dark", "viewport": {"width": 360, "height": 740}}],
    indirect=True,
    ids=["light", "dark phone"],
)
def test_axe_finds_nothing_serious_and_nothing_scrolls_sideways(page, site):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()  # a script that the policy forbids
    classify(page, site[1][:2])
    for summary in page.locator("summary").all():
        summary.click()
    if page.locator(".where").count():
        page.locator(".where").first.click()
        page.locator(".map").get_by_text("matter").wait_for()
    bad = [v for v in axe.run(page).response["violations"] if v["impact"] in ("serious", "critical")]
    assert [(v["id"], v["nodes"][0]["html"][:200]) for v in bad] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
