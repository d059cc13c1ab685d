"""The cache panel: what it shows, what it changes, what it refuses."""

import re

import pytest
from live_server import fresh_png


@pytest.fixture
def panel(visitor, server):
    for quality in (1, 2, 3, 4):
        server.make(fresh_png(), quality=quality)
    visitor["#open-cache"].click()
    visitor.page.wait_for_selector("#entries code")
    return visitor


def test_the_panel_shows_edits_refuses_deletes_pages_and_clears(panel, server):
    for name in ("Hit rate", "Memory", "Time saved", "Evictions", "Coalesced"):
        panel.expect("#charts").to_contain_text(name)
    assert re.search(r"% of 512 MB", panel.text("#charts"))
    panel.expect("#charts .curve").to_have_count(5)

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
    panel["#entries button >> nth=0"].click()
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
    assert server.stats()["current_items"] == 0
    panel.page.keyboard.press("Escape")
    panel.expect("#cache").to_be_hidden()
    panel.expect("#open-cache").to_be_focused()
