"""The files that a page is made from: each with its path, its SHA-256 and, for a record, its content.

Each number on a page is a value of a record or of the page's own JSON block (OWN). A JSON pointer
(https://www.rfc-editor.org/rfc/rfc6901) selects the value. The page shows the record and its hash, so that anyone can
check the number.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional
from urllib.parse import quote

from hrnet.io.files import AnyPath, sha256_file
from hrnet.io.records import read_record

# Id of the page's own JSON block: sums over records, and values of files that are not records, such as the config.
OWN = "page"


@dataclass(frozen=True)
class Source:
    """A file that a page is made from."""

    id: str
    path: str
    name: str  # the path relative to the page's directory if the file is in it, else the path
    link: str  # relative to the page, quoted
    sha256: str
    content: Any = None  # of a JSON record


def pointer(keys: tuple[Any, ...]) -> str:
    """The JSON pointer for these keys."""
    return "".join(f"/{str(key).replace('~', '~0').replace('/', '~1')}" for key in keys)


def value_at(content: Any, keys: tuple[Any, ...]) -> Any:
    """The value at these keys; None if a key is missing."""
    for key in keys:
        try:
            content = content[key]
        except (KeyError, IndexError, TypeError):
            return None
    return content


class Sources:
    """All files that a page is made from, in the order in which they were read."""

    def __init__(self, page: Path) -> None:
        self.page = page
        self.found: dict[Path, Source] = {}

    def link(self, path: AnyPath) -> str:
        """The address of a file relative to the page."""
        return quote(os.fsencode(os.path.relpath(path, self.page.parent)))

    def _add(self, path: Path, content: Any) -> Source:
        if path not in self.found:
            text = os.fsencode(path).decode("utf-8", "replace")
            name = text.removeprefix(f"{self.page.parent}/")
            self.found[path] = Source(
                f"r{len(self.found) + 1}", text, name, self.link(path), sha256_file(path), content
            )
        elif self.found[path].content is None:  # it was added as a file
            self.found[path] = replace(self.found[path], content=content)
        return self.found[path]

    def file(self, path: Path) -> Optional[Source]:
        """A file that is not a record; None if it does not exist."""
        return self._add(path, None) if path.is_file() else None

    def record(self, path: Path, kind: str, hint: Optional[str] = None) -> Optional[Source]:
        """A record; None if it does not exist. Raises FormatError for an invalid one."""
        return self._add(path, read_record(path, kind, hint)) if path.is_file() else None

    def typed(self, path: Path, read: Callable[[Path], Any], kind: str) -> Optional[Source]:
        """As `record`; `read` checks the keys."""
        if path.is_file():
            read(path)
        return self.record(path, kind)

    def records(self, folder: Path, pattern: str, kind: str) -> list[Source]:
        """All records in a directory, sorted by name."""
        found = [self.record(path, kind) for path in sorted(folder.glob(pattern)) if not path.name.startswith(".")]
        return [source for source in found if source]

    def listed(self) -> list[Source]:
        return list(self.found.values())
