"""The page in a real browser: it loads without a complaint and never scrolls sideways."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tpo_plugin.report import write_report

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed (Debian: chromium-driver)"
)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def address(
    curation: Path,
    trainings: dict[str, Path],
    evaluation: Path,
    swept: Path,
    needle: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> str:
    output = tmp_path_factory.mktemp("page") / "report.html"
    evaluations = {"run": evaluation, "swept": swept}
    return write_report(output, curation, trainings, evaluations, needles={"needle": needle}).as_uri()


def show(browser: Any, address: str, width: int, scheme: str = "light") -> None:
    """Load the page with the given width (Chromium's own windows cannot be narrower than 500 px) and open all its parts."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get(address)
    browser.execute_script("document.querySelectorAll('details').forEach(part => part.open = true)")


@pytest.mark.parametrize("width", [1280, 390])
def test_no_complaint_and_no_sideways_scrolling(browser: Any, address: str, width: int) -> None:
    show(browser, address, width)
    assert browser.execute_script("return innerWidth") == width
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    # What is wider than the page scrolls in a container that the keyboard reaches.
    stuck = browser.execute_script(
        "return [...document.querySelectorAll('.scroll, pre')]"
        ".filter(part => part.scrollWidth > part.clientWidth && part.tabIndex != 0).length"
    )
    assert stuck == 0
    assert browser.get_log("browser") == []


def test_every_picture_is_decoded_from_the_page_itself(browser: Any, address: str) -> None:
    show(browser, address, 1280)
    count, whole = browser.execute_async_script(
        "const done = arguments[0], all = [...document.images];"
        "Promise.all(all.map(picture => picture.decode().then(() => picture.naturalWidth > 0, () => false)))"
        ".then(found => done([all.length, found.filter(Boolean).length]))"
    )
    assert count == whole > 50
    assert (
        browser.execute_script(
            "return performance.getEntriesByType('resource').map(x => x.name).filter(x => !x.startsWith('data:'))"
        )
        == []
    )


def test_light_and_dark(browser: Any, address: str) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        show(browser, address, 1280, scheme)
        grounds.append(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert grounds == ["rgb(255, 255, 255)", "rgb(20, 23, 26)"]


def test_charts_and_timelines_have_names(browser: Any, address: str) -> None:
    show(browser, address, 1280)
    from selenium.webdriver.common.by import By

    pictures = browser.find_elements(By.CSS_SELECTOR, "svg[role=img]")
    assert len(pictures) > 20
    assert all(picture.accessible_name for picture in pictures)
