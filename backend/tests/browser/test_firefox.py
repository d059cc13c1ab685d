"""The main line once more in Firefox ESR, over its own Marionette protocol. Headless it has no WebGL2 on most machines:
then this is also the test of a page without a viewer."""

import base64
import io
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import trimesh
from live_server import PATIENCE
from marionette import Firefox
from PIL import Image


@pytest.fixture
def firefox():
    executable = shutil.which("firefox-esr") or shutil.which("firefox")
    if executable is None:
        pytest.skip("the test of the page in Firefox needs it: apt-get install firefox-esr")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        browser = Firefox(executable, Path(folder), PATIENCE)
        yield browser
        browser.close()


def test_the_main_line_in_firefox(firefox, server):
    firefox.go(server.address)
    firefox.wait_for("#server[data-state=ready]")
    firefox.run("document.querySelector('#quality').value = 2;")
    firefox.click("#sample")
    firefox.wait_for("#mask[data-state=found]")
    firefox.wait_for("#make:enabled")
    firefox.click("#make")
    firefox.wait_for("#result:not([hidden])")
    firefox.wait_for("#history li img[src]")
    assert "Ready to print" in firefox.run("return document.querySelector('#verdict').textContent")
    drawn = firefox.run("return document.querySelector('#view-message').hidden")
    if drawn:
        firefox.wait_for("#viewer[data-state=ready]")
        picture = Image.open(io.BytesIO(base64.b64decode(firefox.screenshot("#viewer")))).convert("RGB")
        assert (np.ptp(np.asarray(picture, int), axis=2) > 60).mean() > 0.03
    else:
        assert "no WebGL2" in firefox.run("return document.querySelector('#view-message').textContent")

    firefox.run("document.querySelector('[name=download-format][value=ply]').click()")
    href = firefox.run("return document.querySelector('#download').getAttribute('href')")
    assert trimesh.load(io.BytesIO(server.get(href).content), file_type="ply").is_watertight

    job = firefox.run("return location.hash")
    firefox.call("WebDriver:Refresh")
    firefox.wait_for("#result:not([hidden])")
    assert firefox.run("return location.hash") == job
    asked = firefox.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert all(url.startswith((server.address, "blob:", "data:")) for url in asked)
