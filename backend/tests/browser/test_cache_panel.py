"""The cache panel: what it shows, what it changes, what it refuses."""

import re

import pytest
from live_server import fresh_png, running_server
from page import visit


@pytest.fixture
def panel(visitor, server):
    for quality in (1, 2, 3, 4):
        server.make(fresh_png(), quality=quality)
    visitor["#open-cache"].click()
    visitor.page.wait_for_selector("#entries code")
    return visitor


def entries(server):
    return server.get("/api/cache/entries").json()["entries"]


def expect_fact(panel, name, memory, disk):
    """What the table says of it."""
    panel.expect(f"#cache-facts tr:has(th:text-is('{name}')) td").to_have_text([memory, disk])


def clear(panel, tier):
    panel["#clear-tier"].select_option(tier)
    panel["#clear-cache"].click()
    panel["#ask-yes"].click()
    panel.expect("#ask").to_be_hidden()


def test_the_panel_shows_edits_refuses_deletes_pages_and_clears(panel, server):
    for name in ("Hit rate", "Memory", "Disk", "Time saved", "Evictions", "Coalesced"):
        panel.expect("#charts").to_contain_text(name)
    assert re.search(r"% of 512 MB", panel.text("#charts"))
    assert re.search(r"% of 4096 MB", panel.text("#charts"))
    panel.expect("#charts .curve").to_have_count(6)

    for field, bad in (("max_size", "-1"), ("max_memory_mb", "a lot"), ("default_ttl_seconds", "-5")):
        good = panel[f"#{field}"].input_value()
        panel[f"#{field}"].fill(bad)
        panel["#save-limits"].click()
        panel.expect(f"#{field}-error").to_have_text(re.compile(r"^must be a number(, 0 or more)?\.$"))
        panel.expect(f"#{field}").to_be_focused()
        panel.expect(f"#{field}").to_have_attribute("aria-invalid", "true")
        panel[f"#{field}"].fill(good)
    assert server.get("/api/cache/config").json()["config"]["max_size"] == 1000
    panel.complaints.clear()  # Chromium logs every answer from 400 up

    panel["#max_size"].fill("500")
    panel["#default_ttl_seconds"].fill("0")
    panel["#save-limits"].click()
    panel.expect("#limits-done").to_have_text("The limits are in force.")
    panel.expect("#default_ttl_seconds").to_have_value("")
    config = server.get("/api/cache/config").json()["config"]
    assert (config["max_size"], config["default_ttl_seconds"]) == (500, None)

    before = server.stats()["current_items"]
    panel["#entries button[data-act=drop] >> nth=0"].click()
    panel.expect("#cache-facts").to_contain_text(f"{before - 1} of 500")
    assert server.stats()["current_items"] == before - 1

    for quality in (5, 6):
        server.make(fresh_png(), quality=quality)
    panel.expect("#entries-page").to_contain_text(re.compile("1 to 10 of 1[01]"))
    panel["#entries-on"].click()
    panel.expect("#entries-page").to_contain_text("11 to")

    panel["#clear-cache"].click()
    panel["#ask-no"].click()
    assert server.stats()["current_items"] > 0
    panel["#clear-cache"].click()
    panel["#ask-yes"].click()
    panel.expect("#entries").to_contain_text("Nothing is cached")
    assert (server.stats()["current_items"], server.stats()["disk"]["items"]) == (0, 0)
    panel.page.keyboard.press("Escape")
    panel.expect("#cache").to_be_hidden()
    panel.expect("#open-cache").to_be_focused()


def test_an_entry_is_pinned_and_unpinned_by_mouse_and_by_keyboard(panel, server):
    key = entries(server)[1]["key"]
    pin = f"#entries [data-key='{key}'][data-act=pin]"
    panel.expect(pin).to_have_attribute("aria-pressed", "false")
    panel[pin].click()
    panel.expect(pin).to_have_attribute("aria-pressed", "true")
    panel.expect(pin).to_be_focused()
    panel.expect("#live").to_contain_text("stays on the disk")
    assert [entry["key"] for entry in entries(server) if entry["pinned"]] == [key]
    expect_fact(panel, "Pinned", "–", "1")

    panel.page.keyboard.press("Space")
    panel.expect(pin).to_have_attribute("aria-pressed", "false")
    panel.expect(pin).to_be_focused()
    assert not any(entry["pinned"] for entry in entries(server))


def test_an_entry_that_has_gone_meanwhile_cannot_be_pinned_and_that_is_said(panel, server):
    key = entries(server)[0]["key"]
    panel.page.route("**/pin", lambda route: (server.post("/api/cache/clear"), route.continue_()))
    panel[f"#entries [data-key='{key}'][data-act=pin]"].click()
    panel.expect("#toast").to_contain_text("not on the disk any more")
    panel.expect("#entries").to_contain_text("Nothing is cached")
    panel.complaints.clear()


def test_each_tier_is_shown_beside_the_other_and_cleared_alone(panel, server):
    clear(panel, "all")
    panel.expect("#entries").to_contain_text("Nothing is cached")
    picture = fresh_png()
    server.make(picture, quality=1)
    panel.expect("#entries tr td:nth-child(3)").to_have_text(["Both", "Both"])

    clear(panel, "memory")
    panel.expect("#entries tr td:nth-child(3)").to_have_text(["Disk", "Disk"])
    expect_fact(panel, "Entries", re.compile("^0 of"), "2")
    hits = server.stats()["disk"]["hits"]
    assert server.make(picture, quality=1)["cached"]
    panel.expect("#entries tr td:nth-child(3)").to_have_text(["Both", "Disk"])
    expect_fact(panel, "Hits", re.compile("[0-9]"), str(hits + 1))

    clear(panel, "disk")
    panel.expect("#entries tr td:nth-child(3)").to_have_text(["Memory"])
    assert server.stats()["disk"]["items"] == 0


def test_without_a_disk_tier_nothing_can_be_pinned(chromium, tmp_path):
    with running_server(tmp_path, CACHE_DISK_MB="0") as client, visit(chromium, client.address) as page:
        client.make(fresh_png(), quality=1)
        page.open()["#open-cache"].click()
        page.expect("#charts").to_contain_text("CACHE_DISK_MB is 0")
        expect_fact(page, "Size", re.compile("of 512 MB"), "off")
        page.expect("#entries button").to_have_count(2)
        page.expect("#entries button[data-act=pin]").to_have_count(0)
        page.assert_quiet()
