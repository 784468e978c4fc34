"""A headless Chromium, driven by its own protocol over a pipe: keys, files, pictures. Knows no page of ours."""

import base64
import itertools
import json
import os
import selectors
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = (
    *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-quic", "--mute-audio"),
    *("--remote-debugging-pipe", "--disable-dev-shm-usage", "--hide-scrollbars"),
)
PATIENCE_S = 60.0
KEYS = {"Tab": ("Tab", 9, ""), "Enter": ("Enter", 13, "\r"), "Escape": ("Escape", 27, ""), "Space": (" ", 32, " ")}


class Page:
    """One tab. What went wrong in it (exceptions, refused by its policy, failed loads) is kept in `complaints`,
    whatever asked for a file, by its number, in `choosers`."""

    def __init__(self, browser: "Browser", session: str) -> None:
        self._browser, self._session = browser, session
        self.complaints: list[str] = []
        self.choosers: list[int] = []
        for domain in ("Page", "Runtime", "Log", "DOM"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.send(method, parameters, self._session)

    def heard(self, method: str, parameters: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.complaints.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")
        elif method == "Page.fileChooserOpened":
            self.choosers.append(parameters["backendNodeId"])

    def go(self, url: str) -> None:
        self.send("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """The value of an expression, or of what its promise becomes."""
        told = self.send(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in told, (script, told["exceptionDetails"])
        return told["result"].get("value")

    def until(self, script: str, within_s: float = PATIENCE_S) -> None:
        """Waits until the expression is true."""
        end = time.monotonic() + within_s
        while not self.run(f"Boolean({script})"):
            assert time.monotonic() < end, (script, self.run("document.body.innerText"), self.complaints)
            time.sleep(0.05)

    def text(self, selector: str = "main") -> str:
        told: str = self.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")
        return told

    def click(self, selector: str) -> None:
        self.run(f"document.querySelector({json.dumps(selector)}).click()")

    def fill(self, selector: str, value: str) -> None:
        """As if it had been typed, or chosen."""
        self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.value = {json.dumps(value)};"
            " for (const kind of ['input', 'change']) e.dispatchEvent(new Event(kind, {bubbles: true})) })()"
        )

    def choose_file(self, selector: str, path: Path) -> None:
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", files=[str(path)], nodeId=node)

    def choose_by_key(self, key: str, path: Path) -> None:
        """Presses the key where the focus is; it must ask for a file, which is given."""
        self.send("Page.setInterceptFileChooserDialog", enabled=True)
        self.choosers.clear()
        self.press(key)
        self.until("true")
        assert len(self.choosers) == 1, "no file was asked for"
        self.send("DOM.setFileInputFiles", files=[str(path)], backendNodeId=self.choosers[0])
        self.send("Page.setInterceptFileChooserDialog", enabled=False)

    def tab_to(self, selector: str, most: int = 60) -> None:
        """Presses Tab until the focus is there."""
        for _ in range(most):
            if self.run(f"document.activeElement.matches({json.dumps(selector)})"):
                return
            self.press("Tab")
        raise AssertionError(f"no key leads to {selector}")

    def press(self, key: str) -> None:
        name, code, text = KEYS[key]
        pressed = {"key": name, "code": key, "windowsVirtualKeyCode": code}
        self.send("Input.dispatchKeyEvent", type="keyDown", **pressed, **({"text": text} if text else {}))
        self.send("Input.dispatchKeyEvent", type="keyUp", **pressed)

    def type(self, text: str) -> None:
        self.send("Input.insertText", text=text)

    def size(self, width: int, height: int, scale: float = 1) -> None:
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False
        )

    def dark(self, on: bool) -> None:
        feature = {"name": "prefers-color-scheme", "value": "dark" if on else "light"}
        self.send("Emulation.setEmulatedMedia", features=[feature])

    def picture(self, path: Path) -> None:
        """The whole page as PNG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        told = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(told["data"]))


class Browser:
    """The other end of the pipe: messages that end with a zero byte, answers by number, news by session."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back, self._rest = to, back, b""
        self._numbers = itertools.count(1)
        self._pages: dict[str, Page] = {}
        self._ready = selectors.DefaultSelector()
        self._ready.register(back, selectors.EVENT_READ)

    def page(self) -> Page:
        target = self.send("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.send("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        page = Page.__new__(Page)
        self._pages[session] = page
        page.__init__(self, session)  # type: ignore[misc]
        return page

    def send(self, method: str, parameters: dict[str, Any], session: str = "") -> dict[str, Any]:
        number = next(self._numbers)
        message = {
            "id": number,
            "method": method,
            "params": parameters,
            **({"sessionId": session} if session else {}),
        }
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            told = self._next()
            if told.get("id") == number:
                assert "error" not in told, (method, told["error"])
                answer: dict[str, Any] = told["result"]
                return answer
            if "method" in told and told.get("sessionId") in self._pages:
                self._pages[told["sessionId"]].heard(told["method"], told["params"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            assert self._ready.select(PATIENCE_S), "the browser does not answer"
            part = os.read(self._back, 1 << 20)
            assert part, "the browser ended"
            self._rest += part
        first, _, self._rest = self._rest.partition(b"\0")
        told: dict[str, Any] = json.loads(first)
        return told


@contextmanager
def chromium(folder: Path, *flags: str) -> Iterator[Browser]:
    """A browser with a profile of its own in `folder`."""
    theirs_in, to = os.pipe()
    back, theirs_out = os.pipe()

    def third_and_fourth() -> None:  # where the protocol is spoken
        one, other = os.dup(theirs_in), os.dup(theirs_out)
        os.dup2(one, 3)
        os.dup2(other, 4)

    command = [*CHROMIUM, f"--user-data-dir={folder}", *flags, "about:blank"]
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            command, preexec_fn=third_and_fourth, close_fds=False, stdout=log, stderr=log, start_new_session=True
        )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Browser(to, back)
    finally:
        process.terminate()
        process.wait(20)
        os.close(to)
        os.close(back)
