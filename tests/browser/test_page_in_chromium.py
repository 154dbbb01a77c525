"""The page as a reader has it: in headless Chromium, wide and narrow, light and dark, without a network."""

from __future__ import annotations

import time
from importlib import resources
from pathlib import Path

import pytest
from page_tree import EXPERIMENTS, FIGURES, page_of_every_kind

from mutransfer.page import write_page

SWITCHED = (
    "[...document.querySelectorAll('#figure-cifar_mlp .js-plotly-plot')].map(plot => plot.data.map(x => x.visible))"
)


@pytest.fixture(scope="session")
def small(tmp_path_factory, browser) -> Path:
    return page_of_every_kind(tmp_path_factory.mktemp("page"))


class Opened:
    """A page with what it complained of and what it asked for."""

    def __init__(self, browser, path: Path, **context) -> None:
        self.page = browser.new_page(**context)
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda one: self.complaints.append(one.text) if one.type in ("error", "warning") else 0)
        self.page.on("pageerror", lambda one: self.complaints.append(str(one)))
        self.page.on("request", lambda one: self.asked.append(one.url))
        self.url = path.as_uri()
        self.page.goto(self.url)

    def unfold(self) -> None:
        self.page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")

    def wait(self, condition: str) -> None:
        """Until it is true; Playwright's own way evaluates text inside of the page, which the page forbids."""
        until = time.monotonic() + 20
        while not self.page.evaluate(condition):
            assert time.monotonic() < until, condition
            self.page.wait_for_timeout(20)

    @property
    def overflow(self) -> list[str]:
        """What is wider than the window; nothing if the page does not scroll sideways."""
        return self.page.evaluate(
            "document.documentElement.scrollWidth <= innerWidth ? [] : [...document.querySelectorAll('main *')]"
            ".filter(x => x.getBoundingClientRect().right > innerWidth && !x.closest('.scroll, .sheet'))"
            ".map(x => x.outerHTML.slice(0, 90)).concat('the page')"
        )

    def chart(self, article: str = "#figure-cifar_mlp"):
        """The chart of the folder, drawn."""
        self.page.locator(f"{article} .chart").scroll_into_view_if_needed()
        self.page.wait_for_selector(f"{article} .chart[data-drawn]")
        return self.page.locator(f"{article} .chart")


def check(opened: Opened, pictures: int) -> None:
    """Nothing complained of, nothing asked for outside of the file, every figure there, no sideways scroll."""
    opened.unfold()
    widths = opened.page.evaluate(
        "Promise.all([...document.images].map(x => x.decode().catch(() => 0))).then(() =>"
        " [...document.images].map(x => Math.min(x.naturalWidth, x.getBoundingClientRect().width)))"
    )
    assert len(widths) == pictures and min(widths) > 0
    assert opened.overflow == []
    assert opened.complaints == []
    assert [url for url in opened.asked if not url.startswith(("data:", "blob:"))] == [opened.url]


def test_the_committed_figures_make_a_whole_page(browser, tmp_path):
    """At 1400 and 390 pixels: every committed picture is there."""
    path = write_page(FIGURES, tmp_path, experiments=EXPERIMENTS)[1]
    assert path.stat().st_size < 12e6
    opened = Opened(browser, path, viewport={"width": 1400, "height": 900})
    opened.chart()
    check(opened, len(list(FIGURES.rglob("*.png"))))
    opened.page.set_viewport_size({"width": 390, "height": 900})
    opened.wait("document.documentElement.scrollWidth <= innerWidth")  # the charts follow
    check(opened, len(list(FIGURES.rglob("*.png"))))
    opened.page.close()


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (390, "dark")])
def test_hovering_shows_values_a_width_switches_off_and_on_and_anyone_can_use_it(browser, small, width, scheme):
    """axe-core finds nothing serious, at 1400 pixels with everything unfolded; it must find what is planted."""
    opened = Opened(browser, small, viewport={"width": width, "height": 900}, color_scheme=scheme)
    chart = opened.chart()
    first = chart.locator(".plot").first
    first.scroll_into_view_if_needed()
    box = first.locator(".scatterlayer .trace .points path").nth(1).bounding_box()
    opened.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    hover = first.locator(".hoverlayer .hovertext")
    hover.wait_for()
    text = hover.first.text_content()
    cell = opened.page.locator("#figure-cifar_mlp details table").first.locator("tbody tr").nth(1).locator("td").first
    assert "width 64" in text and cell.text_content() in text and "±" in text

    switch = chart.locator("input").nth(1)
    switch.focus()
    opened.page.keyboard.press("Space")
    opened.wait(f"{SWITCHED}.flat().includes(false)")
    for plot in opened.page.evaluate(SWITCHED):
        assert plot.count(False) == 2 and plot.count(True) == len(plot) - 2  # its line and its star, in SP and µP
    switch.check()
    opened.wait(f"{SWITCHED}.flat().every(Boolean)")

    axe = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    if width == 1400:
        opened.unfold()
    opened.page.evaluate((resources.files(axe) / "axe.min.js").read_text(encoding="utf-8"))
    run = "axe.run(document, {OPTIONS}).then(all => all.violations.filter(one =>"
    run += " ['serious', 'critical'].includes(one.impact)).map(one => `${one.id}: ${one.nodes[0].html}`))"
    assert opened.page.evaluate(run.replace("OPTIONS", "resultTypes: ['violations']")) == []
    check(opened, opened.page.locator("img").count())
    opened.page.evaluate("document.querySelector('main').append(new Image())")
    planted = opened.page.evaluate(run.replace("OPTIONS", "runOnly: ['image-alt']"))
    assert [one.split(":")[0] for one in planted] == ["image-alt"]
    opened.page.close()


def test_the_colours_follow_the_reader(browser, small):
    """Dark violet on black cannot be read: the lines change with the scheme, while the page is open."""
    opened = Opened(browser, small, color_scheme="light")
    opened.chart()
    read = "document.querySelector('#figure-cifar_mlp .js-plotly-plot').data[0].line.color"
    light = opened.page.evaluate(read)
    opened.page.emulate_media(color_scheme="dark")
    opened.wait(f"{read} !== '{light}'")
    opened.page.close()


def test_the_keyboard_reaches_the_results_first(browser, small):
    opened = Opened(browser, small)
    opened.page.keyboard.press("Tab")
    assert opened.page.locator(".skip:focus").bounding_box()["x"] >= 0
    opened.page.keyboard.press("Enter")
    assert opened.page.evaluate("document.activeElement.id") == "main"
    opened.page.close()


def test_without_scripts_and_on_paper_the_figures_stand_in_the_place_of_the_charts(browser, small):
    opened = Opened(browser, small, java_script_enabled=False)
    assert opened.page.locator("#figure-cifar_mlp img").first.is_visible()
    assert not opened.page.locator("#figure-cifar_mlp .chart").is_visible()
    opened.page.close()
    opened = Opened(browser, small, viewport={"width": 760, "height": 900})
    assert not opened.page.locator("#figure-cifar_mlp img").first.is_visible()
    opened.page.emulate_media(media="print")
    opened.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert opened.page.locator("#figure-cifar_mlp img").first.is_visible()
    assert not opened.page.locator("#figure-cifar_mlp .chart").is_visible()
    assert opened.page.locator("#figure-wmt14-table_5 details").last.evaluate("one => one.open")
    opened.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert not opened.page.locator("#figure-wmt14-table_5 details").last.evaluate("one => one.open")
    opened.page.close()
