"""The atlas in a page of the book, in a real browser: what is switched moves, and every reader can reach it.

A small book of one chapter with an untrained model. Needs Chromium and its driver.
"""

import os
import re
import subprocess
import sys

import mini
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from test_site import browser, open_page  # noqa: F401

MEASURE = """\
import torch
from agf_core import figures, interactive, params
from agf_core.analysis import atlas, atlas_figures, atlas_prose
from agf_core.model import Transformer
from agf_core.runs import RunConfig
from agf_core.sources.datasets import DataConfig, load_data
params.check(globals())
body = {"dim": 16, "layers": 2, "heads": 2, "context": 32}
config = RunConfig(body, DataConfig("words", "generated", 200), heldout=256)
torch.manual_seed(0)
model = Transformer(config.model_config(load_data(config.data))).eval()
for block in model.blocks:
    block.attention.qkv.weight.data *= 3
page = atlas.atlas(model, config, profile)
fig, table = atlas_figures.draw(page)
interactive.publish(fig, "atlas", atlas_prose.caption(page), atlas_prose.ALT, table, template="atlas",
                    live=page.to_dict(), numbers={"letters": len(word)})"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The chapter's page, as a file: a site must open from a disk too."""
    root = mini.make(tmp_path_factory.mktemp("atlas"), letters=mini.chapter(MEASURE))
    command = [sys.executable, "book/build.py", "--profile", "smoke"]
    env = {**os.environ, "AGF_STORE": str(root / ".agf")}
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return root / "_build/html/notebooks/letters.html"


@pytest.fixture
def shown(page, browser):  # noqa: F811
    """Open the page at a width and in a colour scheme; the atlas on it."""

    def show(width: int = 1280, scheme: str = "light"):
        asked = open_page(browser, page.as_uri(), width, scheme)
        assert all(url.startswith("file:") for url in asked), asked
        assert not [e for e in browser.get_log("browser") if e["level"] == "SEVERE"]
        return browser.find_element(By.CSS_SELECTOR, "main figure .agf-atlas")

    return show


def points(atlas) -> str:
    return atlas.find_element(By.CSS_SELECTOR, "svg .path").get_attribute("points")


def told(atlas) -> str:
    return atlas.find_element(By.CSS_SELECTOR, ".tell").text


def test_it_stands_in_the_place_of_its_picture_above_the_caption(shown, page):
    figure = shown().find_element(By.XPATH, "./ancestor::figure")
    picture = figure.find_element(By.TAG_NAME, "img")
    assert not picture.is_displayed() and picture.get_attribute("alt")
    caption = figure.find_element(By.TAG_NAME, "figcaption")
    assert caption.text.startswith("Fig. 1") and "profile smoke" in caption.text and "data (CSV)" in caption.text
    assert figure.find_element(By.CSS_SELECTOR, ".agf-atlas").location["y"] < caption.location["y"]
    html = page.read_text()
    assert re.search(r'<div class="agf-atlas" id="agf-atlas"[^>]* hidden>', html)  # nothing of it without scripts


def test_switching_association_or_field_off_moves_the_path(shown, browser):  # noqa: F811
    atlas = shown()
    seen = {}
    for label in atlas.find_elements(By.CSS_SELECTOR, ".switches label"):
        label.click()
        seen[label.text] = points(atlas), atlas.find_element(By.CSS_SELECTOR, ".words").text
        ghosts = atlas.find_elements(By.CSS_SELECTOR, "svg .ghost")
        assert [g.get_attribute("points") for g in ghosts] == ([seen["everything"][0]] if len(seen) > 1 else [])
        assert f", {label.text}: nearest to" in told(atlas)
    assert list(seen) == ["everything", "field only", "association only"]
    assert len({p for p, _ in seen.values()}) == len({w for _, w in seen.values()}) == 3
    starts = {p.split()[0] for p, _ in seen.values()}
    assert len(starts) == 1  # the word's own vector


def test_steps_words_sentences_heads_and_zoom(shown, browser):  # noqa: F811
    atlas = shown()
    first = told(atlas)
    assert first.startswith("Step 1 of 6, embedding, everything: nearest to")
    slider = atlas.find_element(By.CSS_SELECTOR, "input[type=range]")
    slider.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert (
        told(atlas).startswith("Step 3 of 6, layer 1 MLP") and slider.get_attribute("aria-valuetext") == "layer 1 MLP"
    )
    atlas.find_element(By.CSS_SELECTOR, ".forth").send_keys(Keys.ENTER)
    assert told(atlas).startswith("Step 4 of 6, layer 2 attention")
    words = atlas.find_elements(By.CSS_SELECTOR, ".words button")
    words[1].send_keys(Keys.SPACE)
    assert f"nearest to “{words[1].text.split()[0]}”" in told(atlas)
    assert [w.get_attribute("aria-pressed") for w in words] == ["false", "true", *["false"] * (len(words) - 2)]
    assert "not read yet" in words[2].get_attribute("aria-label")
    shares = [int(re.search(r"(\d+) %", w.get_attribute("aria-label"))[1]) for w in words[:2]]
    assert abs(sum(shares) - 100) <= 1
    choices = atlas.find_elements(By.TAG_NAME, "select")
    choices[1].send_keys("head 2")
    before = points(atlas)
    atlas.find_element(By.CSS_SELECTOR, ".zoom").click()
    assert points(atlas) != before
    choices[0].send_keys(Keys.ARROW_DOWN)
    assert told(atlas).startswith("Step 1 of 6") and told(atlas) != first


def test_it_plays_to_the_end_and_can_be_stopped(shown, browser):  # noqa: F811
    atlas = shown()
    slow = "const set = window.setInterval; window.setInterval = (f, ms) => set(f, ms / 20);"
    browser.execute_script(slow)
    play = atlas.find_element(By.CSS_SELECTOR, ".play")
    play.click()
    browser.execute_async_script(
        "const [tell, done] = arguments; const look = () => tell.textContent.startsWith('Step 6 of 6') ? done() : "
        "setTimeout(look, 50); look();",
        atlas.find_element(By.CSS_SELECTOR, ".tell"),
    )
    browser.execute_async_script("setTimeout(arguments[0], 300)")
    assert play.text == "Play"


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (390, "light"), (1280, "dark"), (1280, "light")])
def test_it_can_be_read_narrow_and_wide_light_and_dark(shown, browser, width, scheme):  # noqa: F811
    atlas = shown(width, scheme)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    small, faint, outside = browser.execute_script(
        """
        const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
        const light = (c) => c.match(/[\\d.]+/g).slice(0, 3).map((v) => linear(v / 255))
          .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
        const root = arguments[0], ground = light(getComputedStyle(root).backgroundColor), bad = [[], [], []];
        for (const e of root.querySelectorAll("*")) {
          if (!e.checkVisibility() || ![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
          const style = getComputedStyle(e), ink = light(e.namespaceURI.endsWith("svg") ? style.fill : style.color);
          const contrast = (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
          if (parseFloat(style.fontSize) < 12) bad[0].push(e.textContent);
          if (contrast < 4.5) bad[1].push(e.textContent + " " + contrast);
          const box = e.getBoundingClientRect();
          if (box.left < 0 || box.right > innerWidth + 0.5) bad[2].push(e.textContent);
        }
        return bad;""",
        atlas,
    )
    assert not small and not faint and not outside
    rows = {atlas.find_element(By.CSS_SELECTOR, name).location["y"] for name in (".back", ".play", ".forth")}
    assert len(rows) == 1  # the theme's own rules leave the controls alone


def test_motion_is_reduced_where_the_reader_asks_for_it(shown, browser):  # noqa: F811
    feature = [{"name": "prefers-reduced-motion", "value": "reduce"}]
    atlas = shown()
    moving = atlas.find_element(By.CSS_SELECTOR, "svg .go")
    assert "transform" in moving.value_of_css_property("transition")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": feature})
    assert "transform" not in moving.value_of_css_property("transition")


def test_print_has_the_picture(shown, browser):  # noqa: F811
    atlas = shown()
    picture = atlas.find_element(By.XPATH, "./ancestor::figure//img")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    printed = atlas.is_displayed(), picture.is_displayed()
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert printed == (False, True)
