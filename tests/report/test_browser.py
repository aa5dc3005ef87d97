"""The pages in Chromium: nothing is written to its console, and nothing is requested."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.report.runs import Built, BuiltPose

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
)
NONE = "not an origin"  # initiator of requests that the browser makes for itself, for example to learn the current time

pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="chromium is not installed")]


def open_page(page: Path, folder: Path) -> tuple[list[str], list[str]]:
    """The lines of the console, and the addresses that the browser requested."""
    log = folder / "net.json"
    words = [str(BROWSER), *QUIET, f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}"]
    words += ["--enable-logging=stderr", "--dump-dom", page.resolve().as_uri()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert "</html>" in done.stdout, done.stderr
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    events = json.loads(log.read_text())
    start = events["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    asked = [event.get("params", {}) for event in events["events"] if event["type"] == start]
    own = [each for each in asked if each.get("initiator") == NONE]
    return console, [each["url"] for each in asked if "url" in each and each not in own]


def test_a_request_and_an_error_would_be_found(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text('<!DOCTYPE html><img src="http://127.0.0.1:9/x.png"><script>console.error("found")</script>')
    console, requested = open_page(page, tmp_path)
    assert any("found" in line for line in console)
    assert "http://127.0.0.1:9/x.png" in requested


@pytest.mark.parametrize("kind", [Built, BuiltPose])
def test_no_request_and_no_error(kind: type, tmp_path: Path) -> None:
    built = kind(tmp_path)
    if kind is Built:
        built.add_images()
    built.write()
    console, requested = open_page(built.page, tmp_path)
    assert console == []
    assert requested == []
