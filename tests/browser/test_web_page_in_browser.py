"""The page of an exported folder in a real browser, from a server of files: its answers are those of predict.py."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest

from exported_toys import CLASSES, toy_files, toy_predictor

pytestmark = pytest.mark.browser
playwright = pytest.importorskip("playwright.sync_api", reason="install onecycle[browser]")
pytest.importorskip("onnxscript", reason="needs the extra export")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PACKAGE = "onnxruntime-web@1.30.0"
RUNTIME = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    """The files of onnxruntime-web: in $ONECYCLE_ORT_WEB, or from npm."""
    if "ONECYCLE_ORT_WEB" in os.environ:
        return Path(os.environ["ONECYCLE_ORT_WEB"])
    if shutil.which("npm") is None:
        pytest.skip("no npm on PATH, and ONECYCLE_ORT_WEB names no folder with onnxruntime-web's files")
    folder = tmp_path_factory.mktemp("npm")
    subprocess.run(["npm", "pack", PACKAGE, "--silent"], cwd=folder, check=True, timeout=200)
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        for name in RUNTIME:
            archive.extract(f"package/dist/{name}", folder, filter="data")
    return folder / "package" / "dist"


class Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module", params=[False, True], ids=["classes", "tags"])
def site(request, tmp_path_factory):
    """An exported folder behind a server of files: the model, pictures, and the address of the page."""
    from onecycle.deploy.bundle import export_bundle
    from onecycle.deploy.card import Card
    from onecycle.deploy.portable.predict import Model

    folder = tmp_path_factory.mktemp("site")
    files = toy_files(folder)
    ends = {"value": 0.91, "low": 0.84, "high": 0.95}
    quality = tuple({"class": c, "precision": ends, "recall": ends, "grade": "trust"} for c in CLASSES)
    predictor = toy_predictor(is_multi=request.param, calibrated=True)
    card = Card(name="toy", class_quality=quality)
    made = export_bundle(predictor, folder / "model", files, card, archive=False, web=True)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Files, directory=str(made.folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Model(made.folder, threads=1), files, f"http://127.0.0.1:{server.server_port}/web/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no chromium on PATH")
    with playwright.sync_playwright() as p:
        started = p.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield started
        started.close()


@pytest.fixture
def page(browser, site):
    context = browser.new_context()
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda e: wrong.append(str(e)))
    page.on("console", lambda c: wrong.append(c.text) if "Content Security Policy" in c.text else None)
    allowed = (site[2].removesuffix("web/"), "blob:", "data:")
    page.on("request", lambda r: None if r.url.startswith(allowed) else wrong.append(r.url))
    yield page
    context.close()
    assert wrong == []


def test_what_is_missing_is_named(page, site):
    page.goto(site[2])
    page.get_by_text(f"Put {' and '.join(RUNTIME)} of npm's onnxruntime-web beside this page.").wait_for()
    assert page.locator("#work").is_hidden()


def test_its_answers_are_those_of_predict(page, site, runtime, tmp_path):
    model, files, address = site
    for name in RUNTIME:
        shutil.copyfile(runtime / name, model.folder / "web" / name)
    (tmp_path / "notes.jpg").write_text("no picture")
    page.goto(address)
    page.locator("#work").wait_for(timeout=120_000)
    asked = [*files, str(tmp_path / "notes.jpg")]
    page.set_input_files("#files", asked)
    page.get_by_text(f"{len(asked)} of {len(asked)} pictures answered").wait_for(timeout=120_000)
    items = page.locator("#answers > li").all()[::-1]  # the latest is shown first
    assert "cannot read it as a picture" in items.pop().inner_text()
    for item, right in zip(items, model.predict(files), strict=True):
        assert sorted(item.locator("strong").all_inner_texts()) == sorted(right["labels"])
        for row in item.locator("tr").all():
            found = float(row.get_attribute("data-probability"))
            assert found == pytest.approx(right["probabilities"][row.locator("th").text_content()], abs=1e-5)
    if any(answer["labels"] for answer in model.predict(files)):
        assert "right 91 % of the time (84 to 95)" in page.locator("#answers").inner_text()
