"""A headless Chromium that a test controls by the DevTools protocol over a pair of pipes."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.processes import SECONDS

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or ""


class Browser:
    def __init__(self, sender: int, receiver: int) -> None:
        self.sender, self.receiver, self.number, self.session = sender, receiver, 0, ""
        self.rest = b""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.errors: list[str] = []
        self.call("Runtime.enable")
        self.call("Log.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """Call a method and return its result; errors of the page are kept in `errors`."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.sender, json.dumps(message).encode() + b"\0")
        while True:
            text, found, self.rest = self.rest.partition(b"\0")
            if not found:
                data = os.read(self.receiver, 1 << 20)
                assert data, "the browser ended"
                self.rest = text + data
                continue
            answer = json.loads(text)
            if answer.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.errors.append(text.decode())
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]

    def evaluate(self, script: str) -> Any:
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def wait_for(self, script: str) -> None:
        deadline = time.monotonic() + SECONDS
        while not self.evaluate(script):
            assert time.monotonic() < deadline, (script, self.errors)
            time.sleep(0.1)

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.wait_for("document.readyState == 'complete' && location.href != 'about:blank'")

    def choose(self, selector: str, path: Path) -> None:
        """Set the file of an input element."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path.resolve())])

    def drop(self, selector: str, path: Path) -> None:
        """Drag a file over an element and drop it there."""
        box = self.evaluate(
            f"(box => [box.x + box.width / 2, box.y + box.height / 2])(document.querySelector('{selector}')"
            ".getBoundingClientRect())"
        )
        data = {"items": [], "files": [str(path.resolve())], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=box[0], y=box[1], data=data)

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Start the browser with its files in `folder`."""
    commands, sender = os.pipe()
    receiver, answers = os.pipe()
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1000,700", f"--user-data-dir={folder}"]
    script = f'exec "$@" 3<&{commands} 4>&{answers}'  # the browser reads from descriptor 3 and writes to 4
    process = subprocess.Popen(
        ["bash", "-c", script, "bash", PROGRAM, "--remote-debugging-pipe", *words],
        pass_fds=(commands, answers),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(commands)
    os.close(answers)
    try:
        yield Browser(sender, receiver)
    finally:
        process.kill()
        process.wait()
        os.close(sender)
        os.close(receiver)
