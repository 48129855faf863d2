"""The page of ``onecycle compare``: it shows what it has, asks nothing of anyone, and can be read by all."""

from __future__ import annotations

import shutil

import pytest

from onecycle.cli.compare import comparison_page

CHROMIUM = shutil.which("chromium")
HOSTILE = "</title><script>document.title='run'</script><img src=x onerror=\"document.title='run'\">"


def facts(n: int = 3) -> dict:
    """What ``compare --json`` prints, with hostile names everywhere."""
    score = {"name": "accuracy", "value": 0.9, "low": 0.8, "high": 0.95, "baseline": None, "n": 40}
    worse, unclear = {"p_value": 0.01, "verdict": "worse"}, {"p_value": 1.0, "verdict": "unclear"}
    changed = [{"file": f"{HOSTILE}{i}", "truth": ["cat"], "first": [HOSTILE], "other": ["cat"]} for i in range(n)]
    kept = {"name": HOSTILE, "n": 4, "first": 0.5, "other": None, "p_value": 0.04, "change": 0.5, "beyond_chance": True}
    comparison = {
        "run": "b", "n": 30, "n_first": 40, "n_other": 40, "trained_by_other": 5, "trained_by_first": 5,
        "relabelled": ["x"], "classes": ["cat"], "only_first": [HOSTILE], "only_other": [], "measure": "recall",
        "matched_by_name_alone": True, "thresholds_chosen_on_these_pictures": True,
        "thresholds_note": f"by what {HOSTILE} decides",
        "differences": [
            {**score, "value": -0.1, "low": -0.2, "high": -0.01, **worse},
            {**score, "low": None, "high": None, **unclear},
        ],
        "classes_compared": [kept], "fixed": changed, "broken": [],
        "settings": [{"name": "arch", "first": HOSTILE, "other": None}],
    }  # fmt: skip
    runs = [{"name": HOSTILE, "path": "a", "metrics": [score]}, {"name": "b", "path": "b", "metrics": []}]
    return {"runs": runs, "first": HOSTILE, "comparisons": [comparison], "note": "Weights are compared."}


def test_names_are_text_and_missing_numbers_a_dash():
    page = comparison_page(facts())
    assert "<img" not in page
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "−0.100" in page
    assert "–" in page
    assert "None" not in page
    assert "(not set)" in page
    assert "first. By what &lt;/title&gt;" in page
    assert page.count('class="bad">−0.100') == 1


def test_a_long_list_is_cut_and_counted():
    page = comparison_page(facts(230))
    assert f"&gt;{199}</th>" in page
    assert f"&gt;{200}</th>" not in page
    assert "and 30 more" in page


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")
@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (360, "dark")])
def test_the_page_in_a_browser(tmp_path, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    sync_playwright = pytest.importorskip("playwright.sync_api").sync_playwright
    (tmp_path / "page.html").write_text(comparison_page(facts()), encoding="utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        said, asked = [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("request", lambda request: asked.append(request.url))
        page.goto((tmp_path / "page.html").as_uri())
        assert asked == [(tmp_path / "page.html").as_uri()]
        assert said == []
        assert page.title() != "run"
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        found = axe.run(page).response["violations"]
        assert [v["id"] for v in found if v["impact"] in ("serious", "critical")] == []
        browser.close()
