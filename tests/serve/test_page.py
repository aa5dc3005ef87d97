"""The page at `/` in Chromium: it shows the classes of a file that was chosen or dropped, or the error."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.serve.chain import NAMES, Running, image
from tests.serve.chromium import PROGRAM, browser


@pytest.mark.slow
@pytest.mark.skipif(not PROGRAM, reason="chromium is not installed")
def test_the_page_shows_classes_with_their_names(server: Running, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(image(1))
    (tmp_path / "b.png").write_bytes(b"no image")
    with browser(tmp_path / "profile") as page:
        page.open(server.url)
        assert page.evaluate("document.getElementById('verdict').textContent").startswith("PASS: small top1")
        page.choose("#file", tmp_path / "a.jpg")
        page.wait_for("document.body.dataset.shown == 'a.jpg'")
        shown = page.evaluate(
            "[...document.querySelectorAll('#result li span:first-child')].map(each => each.textContent)"
        )
        assert len(shown) == 5 and set(shown) <= set(NAMES), "names are text, not HTML"
        assert page.evaluate("document.getElementById('canvas').width") == 67
        assert not page.errors
        page.drop("#drop", tmp_path / "b.png")
        page.wait_for("document.body.dataset.shown == 'b.png'")
        assert "not a JPEG or PNG" in page.evaluate("document.querySelector('#result .error').textContent")
        page.drop("#drop", tmp_path / "a.jpg")
        page.wait_for("document.body.dataset.shown == 'a.jpg'")
        assert page.evaluate("document.querySelectorAll('#result li').length") == 5
        page.screenshot(tmp_path / "page.png")
        assert (tmp_path / "page.png").stat().st_size > 5000
