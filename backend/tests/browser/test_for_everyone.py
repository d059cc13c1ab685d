"""For everyone: names, contrast in both themes, the keyboard alone, small and large screens, less motion."""

import io
import re
from pathlib import Path

import pytest
import trimesh
from live_server import fresh_png
from page import visit

AUDIT = (Path(__file__).parent / "audit.js").read_text()
FOCUS_RING = """() => {
    const { activeElement: element } = document;
    if (element === document.body) return null;
    const styles = [element, element.nextElementSibling].filter(Boolean).map((each) => getComputedStyle(each));
    const ring = styles.some((style) => style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2);
    return { id: element.id || element.className || element.tagName, ring };
}"""
SIZES = {"phone": (360, 740), "desk": (1280, 800), "wide": (2560, 1440)}


@pytest.fixture(scope="module")
def job_id(server):
    """A result that every visit of this module looks at."""
    return server.make(fresh_png(), quality=2, format="glb")["job_id"]


def check(page):
    problems = page.page.evaluate(AUDIT)
    assert not problems


@pytest.mark.parametrize(
    ("size", "theme"),
    [
        *(("desk", "light"), ("phone", "dark"), ("wide", "light")),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in (("desk", "dark"), ("phone", "light"), ("wide", "dark"))
        ),
    ],
)
def test_names_contrast_and_width(chromium, server, job_id, size, theme):
    width, height = SIZES[size]
    with visit(chromium, server.address, viewport={"width": width, "height": height}, color_scheme=theme) as page:
        page.open()
        check(page)
        page.open(f"#job={job_id}")
        page.page.reload()
        page.wait_until_made()
        page.page.wait_for_selector("#mask[data-state=found]", state="attached")
        page["#advanced"].evaluate("details => { details.open = true; }")
        page["details.curl"].evaluate("details => { details.open = true; }")
        check(page)
        assert page.page.evaluate("document.documentElement.scrollWidth") <= width
        outside = page.page.evaluate(
            """width => [...document.querySelectorAll("button, input, select, a, h2")]
                .filter((each) => each.checkVisibility() && !each.closest(".strip, .unseen, .skip"))
                .filter((each) => each.getBoundingClientRect().right > width + 1).map((each) => each.id)""",
            width,
        )
        assert outside == []
        page["#mask-edit"].click()
        check(page)
        page["#open-cache"].click()
        page.page.wait_for_selector("#entries code")
        check(page)
        page["#clear-cache"].click()
        check(page)
        page.assert_quiet()


def test_the_whole_line_with_the_keyboard_alone(visitor):
    press = visitor.page.keyboard.press
    press("Tab")
    assert "skip" in visitor.page.evaluate("document.activeElement.className")
    visitor.press_until("Tab", "#sample")
    press("Enter")
    visitor.wait_until_sent()
    visitor.press_until("Tab", "#mask-edit")
    press("Enter")
    visitor.expect("#mask").to_be_focused()
    for key in ("ArrowDown", "x", "Space", "u", "Escape"):
        press(key)
    visitor.expect("#mask-edit").to_be_focused()
    visitor.press_until("Tab", "#quality")
    for _ in range(5):
        press("ArrowLeft")
    visitor.expect("#quality-word").to_have_text(re.compile("^2"))
    visitor.press_until("Tab", "#make")
    press("Enter")
    visitor.wait_until_made()
    visitor.press_until("Tab", "#viewer")
    press("w")
    visitor.expect("#tool-wire").to_have_attribute("aria-pressed", "true")
    visitor.press_until("Tab", "[name=download-format]")
    press("ArrowDown")
    visitor.press_until("Tab", "#download")
    with visitor.page.expect_download() as waiting:
        press("Enter")
    name = waiting.value.suggested_filename
    with open(waiting.value.path(), "rb") as file:
        assert trimesh.load_scene(io.BytesIO(file.read()), file_type=name.rpartition(".")[2]).geometry
    visitor.press_until("Tab", "#history .open")
    visitor.press_until("Shift+Tab", "#open-cache")
    press("Enter")
    visitor.press_until("Tab", "#max_size")
    press("Escape")
    visitor.expect("#open-cache").to_be_focused()


def test_the_focus_goes_on_with_the_work(directed):
    page, client = directed
    press = page.page.keyboard.press
    page["#sample"].focus()
    press("Enter")
    page.expect("#make").to_be_focused()
    client.conductor.hold = True
    press("Enter")
    page.expect("#cancel").to_be_focused()
    client.conductor.next_run()
    page.expect("#stages li[data-state=now]").to_contain_text("Building")
    press("Enter")
    page.expect("#make").to_be_focused()
    page.choose(("two.png", fresh_png()))
    page.expect("#rows li[data-state=ready]").to_have_count(1)
    page["#rows .tool >> nth=0"].focus()
    press("Enter")
    page.expect("#rows .row").to_be_focused()
    page.expect("#live").to_contain_text("was removed")
    page["#rows .tool"].focus()
    press("Enter")
    page.expect("#choose").to_be_focused()
    page.assert_quiet()


def test_whatever_has_the_focus_shows_it(visitor):
    seen = set()
    for _ in range(60):
        visitor.page.keyboard.press("Tab")
        focus = visitor.page.evaluate(FOCUS_RING)
        if focus is None or focus["id"] in seen:
            break
        seen.add(focus["id"])
        assert focus["ring"], f"no ring around {focus['id']}"
    assert {"open-cache", "theme", "sample", "quality", "side", "millimetres"} <= seen


def test_the_theme_follows_the_system_until_it_is_chosen(chromium, server):
    with visit(chromium, server.address, color_scheme="dark") as page:
        page.open()
        ground = "getComputedStyle(document.documentElement).backgroundColor"
        dark = page.page.evaluate(ground)
        page["#theme"].click()
        light = page.page.evaluate(ground)
        assert dark != light
        page.page.reload()
        assert page.page.evaluate(ground) == light
        page["#theme"].click()
        assert page.page.evaluate(ground) == dark
        page.page.emulate_media(color_scheme="light")
        assert page.page.evaluate(ground) == dark
        page["#theme"].click()
        assert page.page.evaluate(ground) == light


def test_a_browser_that_keeps_nothing_and_draws_nothing_in_3d_makes_models_all_the_same(chromium, server):
    with visit(chromium, server.address) as page:
        page.page.add_init_script(
            """for (const area of ["localStorage", "sessionStorage"]) {
                Object.defineProperty(window, area, { get() { throw new DOMException("no", "SecurityError"); } });
            }
            const { getContext } = HTMLCanvasElement.prototype;
            HTMLCanvasElement.prototype.getContext = function (kind, ...more) {
                return kind === "webgl2" ? null : getContext.call(this, kind, ...more);
            };"""
        )
        page.open()
        page["#theme"].click()
        page["#quality"].fill("1")
        page.choose(("one.png", fresh_png()))
        page.wait_until_sent()
        page["#make"].click()
        page.expect("#result").to_be_visible()
        page["#snapshot"].click()
        page.expect("#toast").to_contain_text("no 3D view")
        page.assert_quiet()


def test_the_icons_are_in_the_page(visitor):
    """A lost server cannot give them."""
    visitor.choose(("one.png", fresh_png()))
    visitor.wait_until_sent()
    hrefs = visitor.page.evaluate("[...document.querySelectorAll('use')].map((each) => each.getAttribute('href'))")
    assert hrefs
    assert visitor.page.evaluate("hrefs => hrefs.every((href) => document.querySelector(`symbol${href}`))", hrefs)


def test_less_motion_where_that_is_wished(visitor):
    lively = """() => [...document.querySelectorAll("*")].filter((each) => {
        const style = getComputedStyle(each);
        return style.animationName !== "none" || parseFloat(style.transitionDuration) > 0;
    }).map((each) => each.className)"""
    assert visitor.page.evaluate(lively) == []
    visitor.page.emulate_media(reduced_motion="no-preference")
    assert visitor.page.evaluate(lively) != []


def test_the_server_serves_the_page_with_a_strict_policy_and_nothing_else(server):
    page = server.get("/")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script(?![^>]*\bsrc=)|\bstyle=|\bon[a-z]+=", page.text)
    assert server.get("/viewer/glb.js").headers["Content-Type"].startswith("text/javascript")
    for path in ("/../README.md", "/viewer/../../.env", "/studio.py", "/viewer/"):
        assert server.get(path).status_code == 404
