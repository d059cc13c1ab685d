"""The studio as a visitor has it: a page in Chromium, and a watch on all that it asks for and complains of."""

from __future__ import annotations

import io
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pytest
from live_server import PATIENCE
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Download, Page

sync_api = pytest.importorskip("playwright.sync_api", reason="the tests of the page need playwright")
sync_api.expect.set_options(timeout=PATIENCE * 1000)

CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Studio:
    """One page, and what it did behind the visitor's back."""

    def __init__(self, page: Page, address: str) -> None:
        self.page, self.address = page, address
        self.asked: list[str] = []
        self.complaints: list[str] = []
        page.set_default_timeout(PATIENCE * 1000)
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("console", lambda line: line.type == "error" and self.complaints.append(line.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def open(self, more: str = "") -> Studio:
        self.page.goto(f"{self.address}/{more}")
        self.page.wait_for_selector("#server[data-state=ready]")
        return self

    def __getitem__(self, selector: str):
        return self.page.locator(selector)

    def text(self, selector: str) -> str:
        return self[selector].inner_text()

    def choose(self, *files: tuple[str, bytes]) -> None:
        self["#file"].set_input_files([{"name": name, "mimeType": "", "buffer": data} for name, data in files])

    def drop(self, *files: tuple[str, bytes]) -> None:
        self._transfer("drop", "dataTransfer", "DragEvent", files)

    def paste(self, *files: tuple[str, bytes]) -> None:
        self._transfer("paste", "clipboardData", "ClipboardEvent", files)

    def _transfer(self, event: str, carrier: str, kind: str, files) -> None:
        self.page.evaluate(
            """([event, carrier, kind, files]) => {
                const transfer = new DataTransfer();
                for (const [name, bytes] of files) {
                    transfer.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
                }
                const options = { bubbles: true, cancelable: true, [carrier]: transfer };
                document.body.dispatchEvent(new globalThis[kind](event, options));
            }""",
            [event, carrier, kind, [(name, list(data)) for name, data in files]],
        )

    def wait_until_sent(self) -> None:
        """The picture at hand is on the server and the object in it was looked for."""
        self.page.wait_for_selector("#make:enabled")
        self.page.wait_for_selector("#mask[data-state=found]", state="attached")

    def make(self) -> None:
        """Press the button, and wait until the model is in the viewer and in the history."""
        self["#make"].click()
        self.wait_until_made()

    def wait_until_made(self) -> None:
        self.page.wait_for_selector("#result:not([hidden])")
        self.page.wait_for_selector("#viewer[data-state=ready]")
        self.page.wait_for_selector("#history li[data-current=true] img[src]")

    @property
    def job_id(self) -> str:
        assert "#job=" in self.page.url
        return self.page.url.partition("#job=")[2]

    def download(self, selector: str = "#download") -> tuple[str, bytes]:
        with self.page.expect_download() as waiting:
            self[selector].click()
        return saved(waiting.value)

    def pixels(self, selector: str = "#viewer") -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(self[selector].screenshot())).convert("RGB"), int)

    def press_until(self, key: str, selector: str, most: int = 80) -> None:
        """Go on with the keyboard until that element has the focus."""
        for _ in range(most):
            if self.page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
            self.page.keyboard.press(key)
        raise AssertionError(f"{selector} cannot be reached with {key}")

    def expect(self, selector: str):
        return sync_api.expect(self[selector])

    def assert_quiet(self) -> None:
        """No request left the origin and nothing was complained of."""
        foreign = [url for url in self.asked if not url.startswith((self.address, "blob:", "data:"))]
        assert not foreign
        assert not self.complaints


def coloured(pixels: np.ndarray) -> float:
    """The share of pixels with a strong colour: the page's own backgrounds have none."""
    return float((np.ptp(pixels, axis=2) > 60).mean())


def saved(download: Download) -> tuple[str, bytes]:
    with open(download.path(), "rb") as file:
        return download.suggested_filename, file.read()


@contextmanager
def visit(browser: Browser, address: str, **options):
    """A fresh visitor: nothing remembered."""
    options = {"viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce", **options}
    with browser.new_context(**options) as context:
        yield Studio(context.new_page(), address)


def sphere_glb(subdivisions: int = 3, **attributes) -> bytes:
    """A ball of 5 cm: 20 · 4^subdivisions triangles."""
    import trimesh

    ball = trimesh.creation.icosphere(subdivisions=subdivisions, radius=0.025)
    ball.visual.vertex_colors = np.tile([210, 60, 20, 255], (len(ball.vertices), 1))
    return trimesh.Scene(ball).export(file_type="glb", **attributes)


def rebuilt(glb: bytes, change) -> bytes:
    """The GLB with its JSON and binary chunk as `change(json, binary)` returns them."""
    size = int.from_bytes(glb[12:16], "little")
    content, binary = change(json.loads(glb[20 : 20 + size]), bytes(glb[28 + size :]))
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    chunks = len(text).to_bytes(4, "little") + b"JSON" + text + len(binary).to_bytes(4, "little") + b"BIN\0" + binary
    return b"glTF" + (2).to_bytes(4, "little") + (12 + len(chunks)).to_bytes(4, "little") + chunks
