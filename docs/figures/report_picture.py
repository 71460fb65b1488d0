"""README's picture of a report: `python docs/figures/report_picture.py WORKDIR`.

Needs playwright and Chromium. Writes docs/images/report_light.png and report_dark.png: the first
chart of the page.
"""

import pathlib
import shutil
import sys

from playwright import sync_api

IMAGES = pathlib.Path(__file__).parents[1] / "images"
CHARTS = 1
MARGIN = 8


def main(workdir: str) -> None:
    """Opens the page twice, in light and in dark, and keeps what lies around the first chart."""
    page_address = (pathlib.Path(workdir) / "report.html").resolve().as_uri()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_api.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            page = browser.new_page(
                viewport={"width": 440, "height": 1400}, color_scheme=scheme, device_scale_factor=2
            )
            page.goto(page_address)
            charts = page.locator("#learning figure")
            boxes = [charts.nth(index).bounding_box() for index in range(CHARTS)]
            left = min(box["x"] for box in boxes) - MARGIN
            top = min(box["y"] for box in boxes) - MARGIN
            right = max(box["x"] + box["width"] for box in boxes) + MARGIN
            bottom = max(box["y"] + box["height"] for box in boxes) + MARGIN
            clip = {"x": left, "y": top, "width": right - left, "height": bottom - top}
            page.screenshot(path=IMAGES / f"report_{scheme}.png", clip=clip)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
