"""The page of the service in a browser: photographs are dropped, boxes are drawn, and the list is filtered."""

import base64

import pytest

from browser import OVERFLOWING, open_browser

pytestmark = pytest.mark.slow

DROP = """files => {
    const transfer = new DataTransfer();
    for (const [name, text] of files)
        transfer.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name));
    for (const type of ["dragenter", "dragover", "drop"])
        document.getElementById("drop").dispatchEvent(
            new DragEvent(type, { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""
# Number of pixels of the canvas that have exactly the color of a class.
COUNT_COLOR = """([index, color]) => {
    const canvas = document.querySelectorAll("canvas")[index];
    const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    let count = 0;
    for (let i = 0; i < data.length; i += 4)
        if (data[i] === color[0] && data[i + 1] === color[1] && data[i + 2] === color[2]) count += 1;
    return count;
}"""


@pytest.fixture(scope="module")
def browser():
    with open_browser() as browser:
        yield browser


def color_of(url, call, label):
    text = call("GET", f"{url}/model").json()["classes"][label - 1]["color"]
    return [int(text[start : start + 2], 16) for start in (1, 3, 5)]


@pytest.mark.parametrize("width", [1280, 400])
def test_dropped_photographs_are_shown_with_boxes(width, browser, url, call, picture):
    page = browser.new_page(viewport={"width": width, "height": 900})
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    own = (url, "data:", "blob:")
    page.on("request", lambda request: request.url.startswith(own) or problems.append(request.url))
    page.goto(url)
    page.get_by_text("2 classes").wait_for()
    assert page.evaluate(OVERFLOWING) == []
    # Boxes and captions are drawn in the class's color on red photographs of 0.6 and 0.8.
    files = {"a.png": picture(153, size=(480, 320)), "<i>b</i>.png": picture(204, size=(320, 480)), "c.txt": b"text"}
    page.evaluate(DROP, [[name, base64.b64encode(content).decode()] for name, content in files.items()])
    page.get_by_text("2 detections in 3 photographs").wait_for()
    page.locator(".busy").first.wait_for(state="detached")
    assert page.locator("h2").all_inner_texts() == list(files)
    assert page.locator("canvas").nth(1).get_attribute("aria-label") == "<i>b</i>.png: cat 0.80"
    assert page.get_by_role("alert").filter(has_text="not an image").count() == 1
    facts = page.locator(".facts").first.inner_text()
    assert "480×320" in facts and " ms" in facts
    assert page.evaluate(OVERFLOWING) == [] and page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    cat, dog = color_of(url, call, 1), color_of(url, call, 2)
    assert page.evaluate(COUNT_COLOR, [0, cat]) > 500 and page.evaluate(COUNT_COLOR, [0, dog]) == 0

    page.get_by_label("Minimum score").focus()
    page.keyboard.press("Home")  # the lowest score
    page.get_by_text("4 detections in 3 photographs").wait_for()
    assert page.evaluate(COUNT_COLOR, [0, dog]) > 500
    if width == 400:
        page.locator("#classes summary").press("Enter")  # closed on small screens
    page.get_by_role("checkbox", name="cat").press("Space")
    page.get_by_text("2 detections in 3 photographs").wait_for()
    assert page.evaluate(COUNT_COLOR, [0, cat]) == 0
    page.get_by_role("button", name="Remove c.txt").press("Enter")
    page.get_by_text("2 detections in 2 photographs").wait_for()
    page.get_by_role("button", name="Remove all photographs").click()
    assert page.locator("article").count() == 0
    assert problems == []
    page.close()
