"""report.html in a browser: all images load, nothing overflows the window, and nothing is fetched."""

from pathlib import Path

import pytest

from browser import OVERFLOWING, open_browser
from ssd.evaluation.report.page import write_html_report

pytestmark = pytest.mark.slow

NOT_LOADED = """() => [...document.images].filter(image => !image.complete || image.naturalWidth === 0)
    .map(image => image.alt)"""


@pytest.fixture(scope="module")
def browser():
    with open_browser() as browser:
        yield browser


@pytest.fixture
def open_page(browser):
    """open_page(path, width) opens a file in a window of this width. Returns (list of problems, playwright's page)."""
    pages = []

    def open_file(path, width):
        page = browser.new_page(viewport={"width": width, "height": 900})
        pages.append(page)
        problems, fetched = [], []
        page_url = Path(path).as_uri()
        page.on("request", lambda request: fetched.append(request.url))
        page.on("console", lambda message: problems.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.goto(page_url, wait_until="load")
        problems += [f"fetched {url}" for url in fetched if url != page_url and not url.startswith("data:")]
        problems += [f"not loaded: {alt}" for alt in page.evaluate(NOT_LOADED)]
        problems += [f"overflows: {html}" for html in page.evaluate(OVERFLOWING)]
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            problems.append("the page scrolls sideways")
        return problems, page

    yield open_file
    for page in pages:
        page.close()


@pytest.fixture
def report(tiny_recipe, shapes_records, evaluate_rows, random_rows, tmp_path):
    """report(class names) is the path of a report on random detections of these classes."""

    def write(names):
        cfg = tiny_recipe(data_dir=str(shapes_records), num_classes=None)
        result = evaluate_rows(*random_rows(0, num_classes=len(names)), classes=("background", *names))
        path = tmp_path / "report.html"
        checkpoint = Path("a/folder/with/a/rather/long/name" * 4) / "ssd-7.ckpt"
        write_html_report(path, cfg, result=result, checkpoint=checkpoint)
        return path

    return write


@pytest.mark.parametrize(
    "names",
    [["cat"], ["cat", "dog", "公共汽车" * 20], [f"a rather long name of the class {number}" for number in range(80)]],
    ids=["one class", "odd names", "80 classes"],
)
def test_a_report_fits_the_window_and_loads(names, report, open_page):
    path = report(names)
    for window in (1280, 400):
        problems, page = open_page(path, window)
        assert problems == [], window
        assert page.evaluate("document.images.length") >= 4 + 4  # charts and pictures
        assert page.evaluate("[...document.querySelectorAll('nav a')].every(a => document.querySelector(a.hash))")
        assert page.evaluate("document.compatMode") == "CSS1Compat"  # the doctype comes first
        widths = page.evaluate("[...document.images].map(image => image.getBoundingClientRect().width)")
        assert min(widths) > 120, "every image is large enough to be read"


def test_problems_are_detected(open_page, tmp_path):
    """The tests above can fail."""
    page = tmp_path / "page.html"
    page.write_text(
        '<!DOCTYPE html><body style="margin: 0"><img src="data:image/png;base64,AAAA" alt="broken">'
        '<div style="overflow-x: auto"><p style="width: 2000px">in a container</p></div>'
        '<div style="overflow: clip"><p id="wide" style="width: 500px">clipped</p></div>'
        '<img src="http://127.0.0.1:9/x.png" alt="far"><p style="width: 900px">wide</p><script>nonsense()</script>'
    )
    problems = "\n".join(open_page(page, 400)[0])
    assert "not loaded: broken" in problems and "not loaded: far" in problems
    assert "fetched http://127.0.0.1:9/x.png" in problems
    assert 'overflows: <p id="wide"' in problems and 'overflows: <p style="width: 900px">' in problems
    assert "in a container" not in problems
    assert "the page scrolls sideways" in problems
    assert "error: nonsense is not defined" in problems
