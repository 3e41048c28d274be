"""report.html as a browser shows it: nothing missing, nothing that sticks out, nothing fetched."""

import os
import shutil
from pathlib import Path

import pytest

from ssd.evaluation.report.page import write_html_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
# What is wider than the window, but for what lies in a container that scrolls.
STICKING_OUT = """() => [...document.body.querySelectorAll("*")].filter(element => {
    for (let parent = element.parentElement; parent; parent = parent.parentElement)
        if (["auto", "scroll"].includes(getComputedStyle(parent).overflowX)) return false;
    const box = element.getBoundingClientRect();
    return box.width > 0 && (box.left < -0.5 || box.right > innerWidth + 0.5);
}).map(element => element.outerHTML.slice(0, 200))"""
NOT_LOADED = """() => [...document.images].filter(image => !image.complete || image.naturalWidth === 0)
    .map(image => image.alt)"""


@pytest.fixture(scope="module")
def browser():
    """The system's Chromium. Without one the tests are skipped; where CI is set they fail."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        give_up = pytest.fail if os.environ.get("CI") else pytest.skip
        give_up(f"no browser: none of {', '.join(BROWSERS)} is on the path")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def look(browser):
    """look(path, width) opens a file in a window of this width -> what is wrong, and the page for more questions."""
    pages = []

    def open_page(path, width):
        page = browser.new_page(viewport={"width": width, "height": 900})
        pages.append(page)
        problems, fetched = [], []
        own = Path(path).as_uri()
        page.on("request", lambda request: fetched.append(request.url))
        page.on("console", lambda message: problems.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.goto(own, wait_until="load")
        problems += [f"fetched {url}" for url in fetched if url != own and not url.startswith("data:")]
        problems += [f"not loaded: {alt}" for alt in page.evaluate(NOT_LOADED)]
        problems += [f"sticks out: {html}" for html in page.evaluate(STICKING_OUT)]
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            problems.append("the page scrolls sideways")
        return problems, page

    yield open_page
    for page in pages:
        page.close()


@pytest.fixture
def report(tiny_recipe, shapes_records, evaluate_rows, random_rows, tmp_path):
    """report(class names) is a report of detections of these classes, some of them wrong."""

    def write(names):
        cfg = tiny_recipe(data_dir=str(shapes_records), num_classes=None)
        evaluated = evaluate_rows(*random_rows(0, labels=len(names)), classes=("background", *names))
        path = tmp_path / "report.html"
        write_html_report(path, cfg, evaluated, Path("a/folder/with/a/rather/long/name" * 4) / "ssd-7.ckpt")
        return path

    return write


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize(
    "names",
    [["cat"], ["cat", "dog", "公共汽车" * 20], [f"a rather long name of the class {number}" for number in range(80)]],
    ids=["one class", "odd names", "80 classes"],
)
def test_a_report_fits_and_loads(names, width, report, look):
    problems, page = look(report(names), width)
    assert problems == []
    assert page.evaluate("document.images.length") >= 4 + 4  # charts and pictures
    assert page.evaluate("[...document.querySelectorAll('nav a')].every(a => document.querySelector(a.hash))")
    assert page.evaluate("document.compatMode") == "CSS1Compat"  # the doctype comes first
    widths = page.evaluate("[...document.images].map(image => image.getBoundingClientRect().width)")
    assert min(widths) > 120, "no picture is too small to be seen"


def test_what_is_wrong_is_seen(look, tmp_path):
    """The tests above can fail."""
    page = tmp_path / "page.html"
    page.write_text(
        '<!DOCTYPE html><body style="margin: 0"><img src="data:image/png;base64,AAAA" alt="broken">'
        '<div style="overflow-x: auto"><p style="width: 2000px">in a container</p></div>'
        '<div style="overflow: clip"><p id="wide" style="width: 500px">clipped</p></div>'
        '<img src="http://127.0.0.1:9/x.png" alt="far"><p style="width: 900px">wide</p><script>nonsense()</script>'
    )
    problems = "\n".join(look(page, 400)[0])
    assert "not loaded: broken" in problems and "not loaded: far" in problems
    assert "fetched http://127.0.0.1:9/x.png" in problems
    assert 'sticks out: <p id="wide"' in problems and 'sticks out: <p style="width: 900px">' in problems
    assert "in a container" not in problems
    assert "the page scrolls sideways" in problems
    assert "error: nonsense is not defined" in problems
