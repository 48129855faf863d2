"""The report in a real browser: nothing leaves the page, nothing in a name runs, and its numbers are Python's."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import report_toys as toys
from onecycle.data.bunch import ImageDataBunch
from onecycle.data.synthetic.tiles import write_sample
from onecycle.evaluation.certainty.decisions import Decisions
from onecycle.evaluation.certainty.thresholds import TagThresholds
from onecycle.evaluation.report.page import render
from onecycle.evaluation.scores import sample_fbeta_score

pytestmark = pytest.mark.browser
playwright = pytest.importorskip("playwright.sync_api", reason="install onecycle[browser]")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-default-apps",
]


@pytest.fixture(scope="module")  # two of these at a time in one process is more than Playwright allows
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no chromium on PATH")
    with playwright.sync_playwright() as p:
        found = p.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield found
        found.close()


@dataclass
class Watched:
    """A page, and what it did that it must not do."""

    page: Any
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def check(self) -> None:
        assert (self.console, self.requests, self.dialogs) == ([], [], [])


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    folder = tmp_path_factory.mktemp("reports")
    hostile = toys.tags(60, len(toys.HOSTILE), classes=toys.HOSTILE)
    names = tuple(f"{toys.HOSTILE[i % len(toys.HOSTILE)]}{i}" for i in range(60))
    tags, chosen = toys.tags(), TagThresholds((0.5, 0.1234, 0.33, 0.2, 0.05), "F2", 80)
    predictions = {
        "tags": replace(
            tags, decisions=Decisions(thresholds=chosen), decided=chosen.decide(tags.probs).astype(np.int64)
        ),
        "sets": toys.tags_by_sets(),
        "two": toys.classes(),
        "many": toys.classes(1000, 500, noise=1.0),
        "hostile": replace(hostile, files=names),
        "hostile classes": replace(toys.classes(60, len(toys.HOSTILE), names=toys.HOSTILE), files=names),
    }
    made = {}
    for name, e in predictions.items():
        path = folder / f"{name}.html"
        path.write_text(render(toys.content_of(e)), encoding="utf-8")
        made[name] = (path, e)
    return made


KINDS = ["tags", "sets", "two", "many", "hostile", "hostile classes"]


@pytest.fixture
def open_page(browser, files, tmp_path) -> Iterator[Any]:
    contexts = []

    def opened(kind: str, **options: Any) -> Watched:
        context = browser.new_context(accept_downloads=True, **options)
        contexts.append(context)
        page = context.new_page()
        watched = Watched(page)
        page.on("console", lambda m: watched.console.append(m.text))
        page.on("pageerror", lambda e: watched.console.append(str(e)))
        page.on("dialog", lambda d: (watched.dialogs.append(d.message), d.dismiss()))
        url = files[kind][0].as_uri()
        page.on("request", lambda r: watched.requests.append(r.url) if _leaves(r.url, url) else None)
        page.goto(url)
        return watched

    yield opened
    for context in contexts:
        context.close()


def _leaves(url: str, own: str) -> bool:
    return url != own and not url.startswith(("data:", "blob:"))


@pytest.mark.parametrize("kind", KINDS)
def test_every_picture_opens_and_nothing_leaves_the_page(open_page, kind):
    seen = open_page(kind)
    sizes = seen.page.evaluate(
        "Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth, () => 0)))"
    )
    assert sizes
    assert all(sizes)
    thumbs = seen.page.evaluate(
        """Promise.all(Object.values(JSON.parse(document.getElementById('payload').textContent).thumbs).map(src => {
            const i = new Image(); i.src = src; return i.decode().then(() => i.naturalWidth, () => 0); }))"""
    )
    assert thumbs
    assert all(thumbs)
    seen.check()


@pytest.mark.parametrize("kind", ["hostile", "hostile classes"])
def test_hostile_names_stay_text_in_every_interactive_part(open_page, kind):
    seen = open_page(kind)
    page = seen.page
    for button in page.locator("td[data-cell] button, td[data-actual] button").all()[:12]:
        button.click()
        assert page.locator("#gallery").evaluate("d => d.open")
        page.keyboard.press("Escape")
    assert page.evaluate("document.querySelectorAll('script').length") == 2
    assert page.evaluate(
        "[...document.querySelectorAll('*')].every(e => ![...e.attributes].some(a => a.name.startsWith('on')))"
    )
    seen.check()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["tags", "two", "many"])
def test_axe_finds_nothing_serious(open_page, kind, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    seen = open_page(kind, color_scheme=scheme, bypass_csp=True)  # axe itself is a script that the policy forbids
    found = axe.run(seen.page).response["violations"]
    bad = [
        (v["id"], v["nodes"][0]["html"][:200], v["nodes"][0].get("failureSummary", "")[:300])
        for v in found
        if v["impact"] in ("serious", "critical")
    ]
    assert bad == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_the_page_never_scrolls_sideways(open_page, kind, width):
    seen = open_page(kind, viewport={"width": width, "height": 740})
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("kind", ["tags", "two"])
def test_print_opens_details_and_hides_controls(open_page, kind):
    seen = open_page(kind, viewport={"width": 800, "height": 1000})
    page = seen.page
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.evaluate("[...document.querySelectorAll('details')].every(d => d.open)")
    assert page.locator("#relabel button").first.is_hidden()
    assert page.evaluate("document.documentElement.scrollWidth") <= 800
    assert len(page.pdf()) > 10_000


# -- sliders -------------------------------------------------------------------------------------------------


def expected(e: Any, thresholds: np.ndarray) -> dict[str, Any]:
    given, truth = e.compared >= thresholds, e.truth
    tp, fp, fn = ((a & b).sum(axis=0) for a, b in ((truth, given), (~truth, given), (truth, ~given)))
    with np.errstate(invalid="ignore"):
        return {
            "f2": sample_fbeta_score(given, truth, 2).mean(),
            "micro precision": tp.sum() / (tp.sum() + fp.sum()),
            "micro recall": tp.sum() / (tp.sum() + fn.sum()),
            "precision": tp / (tp + fp),
            "recall": tp / (tp + fn),
            "tag f2": 5 * tp / (5 * tp + 4 * fn + fp),
        }


READ = """() => {
  const v = (e) => Number(e.dataset.value);
  const rows = [...document.querySelectorAll('tr[data-tag]')];
  const column = (name) => rows.map(r => v(r.querySelector(name)));
  return { f2: v(document.getElementById('total-f')), "micro precision": v(document.getElementById('total-precision')),
           "micro recall": v(document.getElementById('total-recall')), precision: column('.precision'),
           recall: column('.recall'), "tag f2": column('.f') };
}"""


def agree(page: Any, e: Any, thresholds: np.ndarray) -> None:
    found = page.evaluate(READ)
    for name, value in expected(e, thresholds).items():
        shown = np.array([np.nan if v is None else v for v in np.atleast_1d(found[name])], dtype=float)
        np.testing.assert_allclose(shown, np.atleast_1d(value), atol=1e-6, rtol=0, err_msg=name)


def move(page: Any, selector: str, value: int) -> None:
    page.locator(selector).evaluate(
        "(s, v) => { s.value = v; s.dispatchEvent(new Event('input', { bubbles: true })); }", str(value)
    )


def test_sliders_agree_with_python(open_page, files):
    e = files["tags"][1]
    seen = open_page("tags")
    agree(seen.page, e, e.limits)
    for step in (0, 1, 37, 100, 163, 199, 200):
        move(seen.page, "#slider-all", step)
        agree(seen.page, e, np.full(5, np.float32(step / 200), dtype=np.float32))
    move(seen.page, "tr[data-tag='2'] input", 30)
    mixed = np.full(5, np.float32(1.0))
    mixed[2] = np.float32(30 / 200)
    agree(seen.page, e, mixed)
    seen.page.locator("#slider-reset").click()
    agree(seen.page, e, e.limits)
    assert "0.1234" in seen.page.locator("#threshold-text").input_value()
    seen.check()


def test_a_slider_moves_by_keyboard(open_page):
    page = open_page("tags").page
    slider = page.locator("tr[data-tag='0'] input")
    slider.focus()
    before = slider.input_value()
    page.keyboard.press("ArrowRight")
    assert int(slider.input_value()) == int(before) + 1
    assert slider.get_attribute("aria-valuetext") == "0.505"


# -- pictures behind numbers ------------------------------------------------------------------------------------


def test_a_cell_of_the_matrix_opens_its_pictures_by_keyboard_and_gives_focus_back(open_page, files):
    e = files["two"][1]
    seen = open_page("two")
    page = seen.page
    button = page.locator("td[data-actual='0'][data-predicted='1'] button")
    button.focus()
    page.keyboard.press("Enter")
    shown = page.evaluate("[...document.querySelectorAll('#gallery figure')].map(f => Number(f.dataset.index))")
    assert shown == np.flatnonzero((e.targets == 0) & (e.decided == 1)).tolist()
    page.keyboard.press("Escape")
    assert not page.locator("#gallery").evaluate("d => d.open")
    assert button.evaluate("b => document.activeElement === b")
    seen.check()


@pytest.mark.parametrize("kind", ["tags", "sets"])
@pytest.mark.parametrize("cell", ["tp", "fp", "fn"])
def test_counts_of_a_tag_open_its_pictures(open_page, files, cell, kind):
    e = files[kind][1]
    page = open_page(kind).page
    page.locator(f"td[data-class='3'][data-cell='{cell}'] button").click()
    truth, given = e.truth[:, 3], e.predicted[:, 3]
    wanted = {"tp": truth & given, "fp": ~truth & given, "fn": truth & ~given}[cell]
    shown = page.evaluate("[...document.querySelectorAll('#gallery figure')].map(f => Number(f.dataset.index))")
    assert shown == np.flatnonzero(wanted).tolist()[:60]


def test_a_table_sorts_and_says_so(open_page):
    page = open_page("tags").page
    header = page.locator("#class-table th", has_text="recall").first
    header.locator("button").press("Enter")
    values = page.evaluate(
        "[...document.querySelectorAll('#class-table tbody tr')].map(r => Number(r.cells[6].dataset.key))"
    )
    assert header.get_attribute("aria-sort") == "descending"
    assert values == sorted(values, reverse=True)
    header.locator("button").press("Enter")
    assert header.get_attribute("aria-sort") == "ascending"


def test_many_classes_can_be_filtered(open_page):
    page = open_page("many").page
    page.locator("#class-filter").fill("class 49")
    assert page.locator("#class-count").text_content() == "11 of 500"


# -- new labels --------------------------------------------------------------------------------------------------


def collect(page: Any, path: Path) -> list[dict[str, str]]:
    with page.expect_download() as caught:
        page.locator("#relabel button[type=submit]").click()
    caught.value.save_as(path)
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_decisions_are_collected_with_names_as_they_are(open_page, files, tmp_path):
    e = files["hostile"][1]
    seen = open_page("hostile")
    for i in range(4):
        seen.page.locator(f"input[name='label-{i}-0'][value=no]").check()
    rows = collect(seen.page, tmp_path / "relabel.csv")
    assert [r["file"] for r in rows] == list(e.files[:4])
    assert {r["tag"] for r in rows} == {toys.HOSTILE[0]}
    assert {(r["given"], r["new_label"]) for r in rows} == {("yes", "no")}
    seen.check()


@pytest.mark.filterwarnings("ignore::onecycle.errors.DataWarning")  # so few tiles miss some tags
def test_data_relabel_reads_what_was_collected(browser, tmp_path):
    from torch import nn

    from onecycle.evaluation.label_issues import LabelIssue
    from onecycle.learner.learner import Learner
    from onecycle.learner.report import build_report

    root = tmp_path / "tiles"
    write_sample(root, 40, size_px=32)
    data = ImageDataBunch.from_csv(root, folder="train", suffix=".jpg", label_delim=" ", size=32)
    body = nn.Sequential(nn.Conv2d(3, 4, 5, stride=4))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, data.c))
    learn = Learner(data, nn.Sequential(body, head), path=tmp_path, silent=True)
    c = int(data.labels.targets[3].argmax())
    issue = LabelIssue(3, data.store.paths[3], str(data.classes[c]), "yes", "no", 0.01)
    page_file = build_report(learn, label_issues=[issue]).save(tmp_path / "report.html")
    page = browser.new_page()
    page.goto(page_file.as_uri())
    page.locator("input[name='label-0-0'][value=no]").check()
    table = tmp_path / "relabel.csv"
    assert len(collect(page, table)) == 1
    page.close()
    assert data.labels.targets[3, c] == 1
    assert data.relabel(table).labels.targets[3, c] == 0


def test_a_class_that_is_not_there_is_not_collected(open_page, tmp_path):
    page = open_page("two").page
    page.locator(".other").first.fill("no such class")
    page.locator("#relabel button[type=submit]").click()
    assert page.locator(".other").first.evaluate("f => !f.validity.valid")
    page.locator(".other").first.fill("class 1")
    assert collect(page, tmp_path / "relabel.csv")[0]["new_label"] == "class 1"


# -- without scripts, and by keyboard ------------------------------------------------------------------------------


def test_without_scripts_everything_but_the_controls_reads(open_page):
    page = open_page("tags", java_script_enabled=False).page
    assert page.locator("#class-table tbody tr").count() == 5
    assert page.locator("#sliders").is_hidden()
    assert page.locator(".verdict dd").first.is_visible()


def test_the_heat_shows_by_keyboard(open_page):
    page = open_page("tags").page
    page.locator("#heat-switch").focus()
    page.keyboard.press("Space")
    assert page.locator(".heat").first.evaluate("i => getComputedStyle(i).opacity") == "1"


def test_inside_a_sandboxed_frame_as_in_a_notebook_it_works(browser, files):
    import html

    page = browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda e: errors.append(str(e)))
    inner = html.escape(files["tags"][0].read_text(encoding="utf-8"), quote=True)
    page.set_content(
        f'<iframe sandbox="allow-scripts allow-downloads" width="900" height="700" srcdoc="{inner}"></iframe>'
    )
    frame = page.frames[1]
    frame.wait_for_selector("html.has-js")
    assert json.loads(frame.evaluate("document.getElementById('total-f').dataset.value")) > 0
    assert errors == []
    page.close()
