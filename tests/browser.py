"""A headless Chromium for tests, driven by the DevTools protocol: open a page, act as a person, look.

Nothing but the browser and a websocket is needed. What goes wrong in the page (exceptions, errors on the
console, requests that leave the file) is kept, so that a test can insist that there is none.
"""

import base64
import itertools
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# No sandbox inside containers, software WebGL, and no look-ups of its own.
OPTIONS = [
    "--headless=new",
    "--no-sandbox",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--disable-extensions",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--hide-scrollbars",
    "--remote-allow-origins=*",
    "--remote-debugging-port=0",
]
PATIENCE = 240.0  # seconds; software WebGL on a busy machine is slow


def browser_or_skip():
    """Path of a browser, or a skip that says what to install."""
    pytest.importorskip("websocket", reason="no websocket-client (it is in the test group of pyproject.toml)")
    found = next(filter(None, map(shutil.which, (os.environ.get("CHROMIUM", ""), *NAMES))), None)
    if found is None:
        pytest.skip("no Chromium (apt-get install chromium, or name one in CHROMIUM)")
    return found


class Browser:
    """One page of a headless browser."""

    def __init__(self, profile, size=(1280, 800)):
        import websocket

        self._ids = itertools.count(1)
        self.problems, self.requests = [], []
        self._process = subprocess.Popen(
            [
                browser_or_skip(),
                *OPTIONS,
                f"--user-data-dir={profile}",
                f"--window-size={size[0]},{size[1]}",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            port = self._await(lambda: (Path(profile) / "DevToolsActivePort").read_text().split()[0])
            import urllib.request

            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
                target = next(each for each in json.load(answer) if each["type"] == "page")
            self._socket = websocket.create_connection(target["webSocketDebuggerUrl"], timeout=PATIENCE)
            for domain in ("Page", "Runtime", "Network", "Log"):
                self.call(f"{domain}.enable")
            self.resize(*size)
        except BaseException:
            self.close()
            raise

    def call(self, method, **params):
        """One command of the protocol and its result; events on the way are kept."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == number:
                assert "error" not in message, (method, message["error"])
                return message["result"]
            self._note(message.get("method"), message.get("params", {}))

    def _note(self, event, params):
        if event == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description", details["text"]))
        elif event == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.problems.append(" ".join(str(each.get("value", each)) for each in params["args"]))
        elif event == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.problems.append(params["entry"]["text"])
        elif event == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])

    def open(self, path):
        self.call("Page.navigate", url=Path(path).absolute().as_uri())

    def resize(self, width, height):
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def run(self, expression):
        """Value of a JavaScript expression; promises are awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition):
        """Until a JavaScript expression is true; its value."""
        return self._await(lambda: self.run(condition) or None, condition)

    @staticmethod
    def _await(look, what="the browser"):
        end = time.monotonic() + PATIENCE
        while True:
            try:
                if (found := look()) is not None:
                    return found
            except (OSError, IndexError):
                pass
            assert time.monotonic() < end, f"waited {PATIENCE:.0f} s for {what}"
            time.sleep(0.1)

    def type(self, text):
        for letter in text:
            self.call("Input.insertText", text=letter)

    def press(self, key, code=None):
        named = {"Enter": 13, "Escape": 27, "ArrowDown": 40, "ArrowUp": 38, "ArrowLeft": 37, "ArrowRight": 39}
        number = named.get(key, ord(key.upper()) if len(key) == 1 else 0)
        common = {"key": key, "code": code or key, "windowsVirtualKeyCode": number}
        text = {"text": "\r"} if key == "Enter" else {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **common, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def _mouse(self, kind, x, y, **more):
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def move(self, x, y):
        self._mouse("mouseMoved", x, y)

    def click(self, x, y):
        self.move(x, y)
        for kind in ("mousePressed", "mouseReleased"):
            self._mouse(kind, x, y, button="left", buttons=1, clickCount=1)

    def drag(self, start, end, steps=8):
        self.move(*start)
        self._mouse("mousePressed", *start, button="left", buttons=1, clickCount=1)
        for step in range(1, steps + 1):
            x, y = (a + (b - a) * step / steps for a, b in zip(start, end, strict=True))
            self._mouse("mouseMoved", x, y, button="left", buttons=1)
        self._mouse("mouseReleased", *end, button="left", buttons=1, clickCount=1)

    def picture(self, path=None):
        """PNG bytes of what is seen, also written to a file if asked to."""
        data = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        if path is not None:
            Path(path).write_bytes(data)
        return data

    def close(self):
        if getattr(self, "_socket", None) is not None:
            self._socket.close()
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
