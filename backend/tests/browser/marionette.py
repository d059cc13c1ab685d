"""Firefox driven over its own Marionette socket: Debian ships no geckodriver, and the protocol is a few lines.

Each message is `length:[0, id, command, parameters]`, each answer `length:[1, id, error, result]`.
"""

import contextlib
import json
import os
import socket
import subprocess
import time
from pathlib import Path

PREFERENCES = {
    "marionette.port": 0,  # any free one; Firefox writes which into its profile
    "webgl.force-enabled": True,  # with the software renderer, as there is no graphics card
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "app.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
}


class Firefox:
    """One headless Firefox with a profile of its own."""

    def __init__(self, executable: str, folder: Path, patience: float) -> None:
        self.patience = patience
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in PREFERENCES.items()]
        (folder / "user.js").write_text("\n".join(lines))
        self.process = subprocess.Popen(
            [executable, "--headless", "--no-remote", "--marionette", "--profile", str(folder), "about:blank"],
            env={**os.environ, "HOME": str(folder)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.socket = self._connect(folder / "MarionetteActivePort")
        self.answers = self.socket.makefile("rb")
        self._read()  # its greeting
        self.number = 0
        self.call("WebDriver:NewSession", {"capabilities": {"alwaysMatch": {"acceptInsecureCerts": False}}})

    def _connect(self, port_file: Path) -> socket.socket:
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError, ValueError):
                return socket.create_connection(("127.0.0.1", int(port_file.read_text())), timeout=self.patience)
            time.sleep(0.05)  # nothing tells when a program begins to listen
        raise RuntimeError(f"Firefox did not listen; it ended with {self.process.poll()}")

    def _read(self):
        length = b""
        while (byte := self.answers.read(1)) != b":":
            assert byte, "Firefox has gone"
            length += byte
        return json.loads(self.answers.read(int(length)))

    def call(self, command: str, parameters: dict | None = None):
        self.number += 1
        message = json.dumps([0, self.number, command, parameters or {}]).encode()
        self.socket.sendall(f"{len(message)}:".encode() + message)
        _, _, error, result = self._read()
        if error:
            raise RuntimeError(f"{command}: {error['message']}")
        return result.get("value", result) if isinstance(result, dict) else result

    def go(self, url: str) -> None:
        self.call("WebDriver:Navigate", {"url": url})

    def find(self, selector: str) -> str:
        element = self.call("WebDriver:FindElement", {"using": "css selector", "value": selector})
        return next(iter(element.values()))

    def click(self, selector: str) -> None:
        self.call("WebDriver:ElementClick", {"id": self.find(selector)})

    def type(self, selector: str, text: str) -> None:
        self.call("WebDriver:ElementSendKeys", {"id": self.find(selector), "text": text})

    def run(self, script: str):
        """The result of a script's `return`."""
        return self.call("WebDriver:ExecuteScript", {"script": script, "args": []})

    def wait_for(self, selector: str) -> None:
        """Return once an element matches; the page itself reports it."""
        script = """
            const [selector, done] = arguments;
            const look = () => document.querySelector(selector) && (watch.disconnect(), done(true));
            const watch = new MutationObserver(look);
            watch.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
            look();
        """
        self.call("WebDriver:SetTimeouts", {"script": int(self.patience * 1000)})
        self.call("WebDriver:ExecuteAsyncScript", {"script": script, "args": [selector]})

    def screenshot(self, selector: str) -> str:
        """Base64 PNG of an element."""
        return self.call("WebDriver:TakeScreenshot", {"id": self.find(selector), "full": False})

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.call("Marionette:Quit", {"flags": ["eForceQuit"]})
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.answers.close()
        self.socket.close()
