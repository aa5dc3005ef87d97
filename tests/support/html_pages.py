"""Read a page as a browser does, with the standard library, and check its numbers against the files that it names."""

from __future__ import annotations

import hashlib
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

LOADED = {("img", "src"), ("link", "href"), ("script", "src"), ("iframe", "src"), ("object", "data"), ("use", "href")}


class Page(HTMLParser):
    """The elements of a page. `numbers`: attributes and text of each `data` element."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.tags = path, list[str]()
        self.numbers: list[tuple[dict[str, str], str]] = []
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.handlers: list[str] = []
        self.words: list[str] = []
        self.scripts: list[tuple[dict[str, str], str]] = []
        self.pre: list[str] = []
        self.open: list[tuple[str, dict[str, str], list[str]]] = []
        self.text_of_file = path.read_text(encoding="utf-8")
        self.feed(self.text_of_file)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # type: ignore[override]
        values = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values["href"]] if tag == "a" else []
        self.loaded += [value for name, value in values.items() if (tag, name.split(":")[-1]) in LOADED]
        self.handlers += [name for name in values if name.startswith("on")]
        if tag in ("data", "script", "style", "pre"):
            self.open.append((tag, values, []))

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1][0] == tag:
            _, values, words = self.open.pop()
            text = "".join(words)
            if tag == "data":
                self.numbers.append((values, text))
            elif tag == "script":
                self.scripts.append((values, text))
            elif tag == "pre":
                self.pre.append(text)

    def handle_data(self, text: str) -> None:
        for _, _, words in self.open:
            words.append(text)
        if not self.open or self.open[-1][0] not in ("script", "style"):
            self.words.append(text)

    @property
    def json(self) -> Any:
        ((values, text),) = self.scripts
        assert values == {"type": "application/json", "id": "data"}
        return json.loads(text, parse_constant=lambda name: 1 / 0)

    def file(self, record: str) -> Path:
        """The file with this id, by the link in the list of files."""
        known = self.json["files"][record]
        (link,) = {
            unquote(each)
            for each in self.links
            if (self.path.parent / unquote(each)).resolve() == Path(known["path"]).resolve()
        }
        return self.path.parent / link

    def check_numbers(self) -> int:
        """Check that each number equals that of its record, rounded to the shown digits; return how many there are."""
        contents: dict[str, Any] = {"page": self.json["page"]}
        for record, known in self.json["files"].items():
            path = self.file(record)
            assert hashlib.sha256(path.read_bytes()).hexdigest() == known["sha256"], path
            if path.suffix == ".json":
                contents[record] = json.loads(path.read_text())
        for values, text in self.numbers:
            found = contents[values["data-record"]]
            for key in values["data-key"].split("/")[1:]:
                key = key.replace("~1", "/").replace("~0", "~")
                found = found[int(key)] if isinstance(found, list) else found[key]
            assert float(values["value"]) == found, values
            check_shown(text.replace(",", ""), found * float(values.get("data-factor", 1)))
        return len(self.numbers)

    def check_safe(self) -> None:
        """Nothing is loaded, no script runs, and all ids differ."""
        assert all(address.startswith(("data:", "#")) for address in self.loaded)
        assert not self.handlers and self.tags.count("script") == 1
        assert len(set(self.ids)) == len(self.ids)
        assert "default-src 'none'" in self.text_of_file
        rest = re.sub(r"base64,[^\"]*", "", self.text_of_file)  # encoded images may contain any letters
        assert not re.search("nan\\b|NaN|Infinity", rest)


def check_shown(text: str, value: float) -> None:
    """The text is the value, rounded to the digits that it shows."""
    mantissa, _, exponent = text.partition("e")
    digits = len(mantissa.partition(".")[2])
    step = 10.0 ** (int(exponent or 0) - digits)
    if exponent or "." in mantissa or float(text) == value:
        assert math.isclose(float(text), value, abs_tol=0.5000001 * step), (text, value)
    else:  # whole numbers, and .4g
        assert math.isclose(float(text), value, rel_tol=0.01, abs_tol=0.5), (text, value)
