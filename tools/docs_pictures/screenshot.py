"""Take a screenshot of a local HTML file with the system's Chromium."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

from PIL import Image

from ssd.errors import UserError

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def take_screenshot(page: Path, path: Path, anchor: str, width: int, height: int) -> None:
    """Take a screenshot of a page.

    page: HTML file
    path: PNG file to write, with a palette of 256 colors
    anchor: id of the element at the top of the picture
    width, height: size of the window in pixels
    Raises UserError if the page or the browser is missing.
    """
    if not page.is_file():
        raise UserError(f"{page}: not found. Evaluate a detector first, for example with make demo.")
    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser_path is None:
        raise UserError(f"browser: none of {', '.join(BROWSERS)} is installed. Install Chromium.")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": width, "height": height})
        tab.goto(f"{page.resolve().as_uri()}#{anchor}")
        picture = tab.screenshot()
        browser.close()
    with Image.open(io.BytesIO(picture)) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
