"""The rendered site in a real browser: every page, narrow and wide, light and dark.

A copy of the checkout is built in smoke, so that the reader's own site stays as it is. Needs Chromium and its driver.
"""

import functools
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urldefrag, urljoin, urlparse

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def html(tmp_path_factory) -> Path:
    """The site of a copy of what git tracks here (and of what is new and not ignored)."""
    root = tmp_path_factory.mktemp("clone")
    listed = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    command = [sys.executable, "book/build.py", "--profile", "smoke"]
    done = subprocess.run(command, cwd=root, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return root / "_build/html"


@pytest.fixture(scope="session")
def site(html):
    """The site's address, served here."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(html)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    assert program and driver, "the site is tested in Chromium: install Debian's chromium and chromium-driver"
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-dev-shm-usage"):
        options.add_argument(f"--{flag}")
    for flag in ("disable-background-networking", "disable-component-update", "disable-sync"):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    chrome.set_page_load_timeout(60)
    yield chrome
    chrome.quit()


def pages(html: Path) -> list[str]:
    return sorted(str(p.relative_to(html)) for p in html.rglob("*.html") if "_static" not in p.parts)


def open_page(browser, url: str, width: int, scheme: str) -> list[str]:
    """Open a page, wait for its maths, and return the addresses that it asked for."""
    browser.get_log("performance"), browser.get_log("browser")
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": feature})
    browser.get(url)
    browser.execute_async_script(
        "const done = arguments[0]; const maths = window.MathJax?.startup?.promise;"
        "(maths ? maths.then(() => document.fonts.ready) : document.fonts.ready).then(() => done())"
    )
    events = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    sent = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    return [u for u in sent if not u.startswith(("data:", "blob:", "chrome:"))]


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (390, "light"), (1280, "dark"), (1280, "light")])
def test_every_page_opens_clean(html, site, browser, width, scheme):
    """No console error, no request to another host, no sideways scrolling; the dark page is dark."""
    wrong = []
    for page in pages(html):
        asked = open_page(browser, site + page, width, scheme)
        wrong += [f"{page}: asks {url}" for url in asked if not url.startswith(site)]
        severe = [e["message"] for e in browser.get_log("browser") if e["level"] in ("SEVERE", "WARNING")]
        wrong += [f"{page}: {message}" for message in severe]
        wide = browser.execute_script("return document.documentElement.scrollWidth")
        wrong += [f"{page}: {wide} pixels wide at {width}"] if wide > width else []
        ground = browser.execute_script(
            "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
        )
        wrong += [f"{page}: {scheme} has ground {ground}"] if (sum(ground) < 384) != (scheme == "dark") else []
        raw = browser.execute_script(
            "return [...document.querySelectorAll('main .math')].filter(m => !m.querySelector('mjx-container')).length"
        )
        wrong += [f"{page}: {raw} formulas are not set"] if raw else []
    assert not wrong, "\n".join(wrong)


def test_every_image_loads_and_says_what_it_shows(html, site, browser):
    wrong = []
    for page in pages(html):
        open_page(browser, site + page, 1280, "light")
        for image in browser.find_elements(By.CSS_SELECTOR, "main img"):
            browser.execute_script("arguments[0].loading = 'eager'", image)
            loaded = browser.execute_async_script(
                "arguments[0].decode().then(() => arguments[1](true), () => arguments[1](false))", image
            )
            wrong += [] if loaded else [f"{page}: {image.get_attribute('src')} does not load"]
            alt = image.get_attribute("alt") or ""
            wrong += [] if len(alt) > 15 and "/" not in alt else [f"{page}: alternative text {alt!r}"]
    assert not wrong, "\n".join(wrong)


def test_no_link_within_the_site_is_broken(html, site, browser):
    links, anchors = set(), {}
    for page in pages(html):
        open_page(browser, site + page, 1280, "light")
        hrefs = browser.execute_script("return [...document.querySelectorAll('a[href]')].map(a => a.href)")
        anchors[page] = set(browser.execute_script("return [...document.querySelectorAll('[id]')].map(e => e.id)"))
        links |= {(page, urljoin(site + page, href)) for href in hrefs if href.startswith(site)}
    broken = []
    for page, link in sorted(links):
        address, anchor = urldefrag(link)
        target = urlparse(address).path.lstrip("/") or "index.html"
        if not (html / target).is_file():
            broken.append(f"{page} → {link}: no such file")
        elif anchor and target in anchors and anchor not in anchors[target]:
            broken.append(f"{page} → {link}: no such place in the page")
    assert links and not broken, "\n".join(broken)


def test_the_ledger_has_one_row_a_claim_with_its_verdict(site, browser):
    sys.path.insert(0, str(ROOT))
    from agf_core.claims import CLAIMS, VERDICTS

    open_page(browser, site + "ledger.html", 1280, "light")
    rows = browser.find_elements(By.CSS_SELECTOR, "main .agf-wide tbody tr")
    assert [row.find_elements(By.TAG_NAME, "td")[0].text for row in rows] == list(CLAIMS)
    assert all(row.find_element(By.CSS_SELECTOR, ".agf-verdict").text in VERDICTS for row in rows)


def test_every_chapter_shows_figures_with_captions_data_and_provenance(html, site, browser):
    chapters = [p for p in pages(html) if p.startswith("notebooks/")]
    assert chapters
    for page in chapters:
        open_page(browser, site + page, 1280, "light")
        figures = browser.find_elements(By.CSS_SELECTOR, "main figure")
        assert figures, page
        for figure in figures:
            caption = figure.find_element(By.TAG_NAME, "figcaption").text
            assert caption.startswith("Fig. ") and "profile smoke" in caption and "data (CSV)" in caption, caption
            link = figure.find_element(By.CSS_SELECTOR, "a[download]").get_attribute("href")
            assert (html / urlparse(link).path.lstrip("/")).read_text().count("\n") > 1
        assert "Run on" in browser.find_element(By.CSS_SELECTOR, ".agf-run").text


def test_what_ships_is_small(html):
    size = sum(p.stat().st_size for p in html.rglob("*") if p.is_file())
    maths = sum(p.stat().st_size for p in (html / "_static/mathjax").rglob("*") if p.is_file())
    assert maths < 3e6 and size < 40e6, (maths, size)
