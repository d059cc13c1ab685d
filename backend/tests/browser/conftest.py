"""One Chromium and one server for each module of tests of the page; they are skipped where Chromium is missing."""

import shutil

import pytest
from live_server import running_server, scripted_server


@pytest.fixture(scope="module")  # no longer: while it lives, playwright's event loop runs in the main thread
def chromium():
    sync_api = pytest.importorskip("playwright.sync_api", reason="the tests of the page need playwright")
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("the tests of the page need Chromium: apt-get install chromium")
    from page import CHROMIUM_FLAGS

    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of the module's own, with the built-in model."""
    with running_server(tmp_path_factory.mktemp("server")) as client:
        yield client


@pytest.fixture
def visitor(chromium, server):
    """The page, opened afresh; at the end nothing may have left the origin or been complained of."""
    from page import visit

    with visit(chromium, server.address) as page:
        yield page.open()
        page.assert_quiet()


@pytest.fixture
def directed(chromium, tmp_path):
    """The page of a server whose model the test conducts: (page, client)."""
    from page import visit

    with scripted_server(tmp_path) as client, visit(chromium, client.address) as page:
        yield page.open(), client
