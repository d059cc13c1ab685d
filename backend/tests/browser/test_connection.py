"""A server that only starts up: whatever it answers meanwhile, the page finds out how it is."""

import pytest
from page import visit

FAILURES = {
    "an error": lambda route: route.fulfill(status=500, body="Internal Server Error"),
    "no JSON": lambda route: route.fulfill(body="<p>Starting…</p>", content_type="text/html"),
    "another JSON": lambda route: route.fulfill(json={"status": "starting"}),
    "nothing": lambda route: route.abort(),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_the_page_recovers_from_failed_answers_about_health(chromium, server, kind):
    with visit(chromium, server.address) as page:
        asked = []

        def answer(route):
            asked.append(route)
            FAILURES[kind](route) if len(asked) <= 1 else route.continue_()

        page.page.route("**/api/health", answer)
        page.page.goto(server.address)
        page.expect("#server").not_to_have_attribute("data-state", "loading")
        page.expect("#server-text").to_contain_text("Ready")
        page.page.wait_for_selector("#models input:checked")
        page.expect("#banner").to_be_hidden()
        assert len(asked) > 1


def test_a_model_that_is_still_loading_is_waited_for(chromium, server):
    with visit(chromium, server.address) as page:
        asked = []

        def answer(route):
            asked.append(route)
            health = route.fetch().json()
            route.fulfill(json=health | ({"models_status": "loading", "model": None} if len(asked) <= 2 else {}))

        page.page.route("**/api/health", answer)
        page.page.goto(server.address)
        page.expect("#server-text").to_contain_text("is loading")
        page.page.wait_for_selector("#server[data-state=ready]")
        page.page.wait_for_selector("#models input:checked")
        page.assert_quiet()
