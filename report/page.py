"""Render an HTML page from records. Names of files and classes are untrusted: jinja2 escapes all values.

The page needs no script and requests nothing; its Content-Security-Policy forbids both. A number from a file is
`<data value="76.8" data-record="r1" data-key="/metrics/top1">`. `r1` is the id of a file in the list at the end of the
page. The id `page` means the page's own JSON block, which has the values that are in no record (report.sources.OWN).
"""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import math
import shlex
from pathlib import Path
from typing import Any, Optional

from PIL import Image

from hrnet.cli import UserError, plural
from hrnet.hints import install
from hrnet.io.files import make_folder, write_text
from report.sources import OWN, Source, Sources, pointer, value_at

TEMPLATES = Path(__file__).parent / "templates"
JPEG_QUALITY = 78
LARGEST = 1_000_000  # bytes of a page


def check_installed() -> None:
    """Raise UserError unless jinja2 and matplotlib are installed."""
    missing = [name for name in ("jinja2", "matplotlib") if importlib.util.find_spec(name) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise UserError(f"{' and '.join(missing)} {verb} not installed", hint=install(" ".join(missing), "report"))


class Page:
    """One page: the files that it is made from, and the values that it shows. `own`: the content of OWN."""

    def __init__(self, sources: Sources, own: dict[str, Any]) -> None:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined

        self.sources, self.own = sources, Source(OWN, "", "", "", "", own)
        self.shown: dict[str, dict[str, Any]] = {}
        self.environment = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.environment.globals |= {
            "num": self.num,
            "own": self.own,
            "at": at,
            "embedded": self.embedded,
            "plural": plural,
        }
        self.environment.filters |= {"command": shlex.join, "svg": svg, "shown": shown}

    def num(self, source: Source, *keys: Any, f: str = ".2f", factor: float = 1) -> Any:
        """The value of a record at these keys as an HTML element; `-` if it is missing or not finite. `f`: format;
        `factor`: the value is multiplied by it, to show it in another unit."""
        from markupsafe import Markup

        value = value_at(source.content, keys)
        if value is None or not math.isfinite(value):
            return Markup('<span class="none">-</span>')
        key = pointer(keys)
        self.shown.setdefault(source.id, {})[key] = value
        text = format(value * factor, f)
        text = text if text.strip("-0.") else text.lstrip("-")  # -0.00
        more = Markup(' data-factor="{}"').format(factor) if factor != 1 else ""
        return Markup('<data value="{}" data-record="{}" data-key="{}"{}>{}</data>').format(
            value, source.id, key, more, text
        )

    def embedded(self) -> Any:
        """All data of the page as JSON, in a script element that no browser runs."""
        from markupsafe import Markup

        files = {each.id: {"path": each.path, "sha256": each.sha256} for each in self.sources.listed()}
        content = {"files": files, "values": self.shown, OWN: self.own.content}
        text = json.dumps(finite(content), allow_nan=False)
        for mark in "<>&":  # so that no text ends the element
            text = text.replace(mark, f"\\u{ord(mark):04x}")
        return Markup('<script type="application/json" id="data">{}</script>').format(Markup(text))

    def write(self, template: str, **context: Any) -> int:
        """Render a template and write the page; returns its size in bytes."""
        text = self.environment.get_template(template).render(files=self.sources.listed(), **context)
        text = text.encode("utf-8", "backslashreplace").decode()  # for names of files that are not UTF-8
        make_folder(self.sources.page.parent)
        write_text(self.sources.page, text)
        return len(text.encode())


def finite(value: Any) -> Any:
    """JSON values with null for NaN and infinite numbers."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def at(source: Optional[Source], *keys: Any) -> Any:
    """The value of a record at these keys, for text and conditions; None if a key is missing."""
    return value_at(source.content, keys) if source else None


def svg(chart: str) -> Any:
    """A chart of make.charts, which contains only numbers and escaped names."""
    from markupsafe import Markup

    return Markup(chart)


def shown(value: object) -> str:
    """A name as text: characters that are not printable are replaced."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in str(value))


def data_uri(image: Image.Image) -> str:
    """An image as a data: URI, for an img element."""
    with io.BytesIO() as file:
        image.convert("RGB").save(file, format="JPEG", quality=JPEG_QUALITY, optimize=True)
        return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
