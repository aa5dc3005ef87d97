"""Download a file over HTTP to `<file>.part`, with a record beside it, so that an interrupted download can be resumed.

A server resumes if it supports Range and its file has not changed (size, ETag, Last-Modified).
"""

from __future__ import annotations

import http.client
import os
import re
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Optional
from urllib.parse import urlsplit

from tqdm import tqdm

from hrnet.cli import UserError
from hrnet.io.files import AnyPath
from hrnet.io.records import FormatError, from_json, read_record, write_record

TIMEOUT = 30  # seconds without data
BLOCK = 1 << 18  # bytes
AGAIN = "run the same command again to resume"
HUGGING_FACE = "https://huggingface.co"
LINKED = "X-Linked-ETag"  # Hugging Face's header: the SHA-256 of the file, sent with the redirect to its bytes


@dataclass(frozen=True)
class PartRecord:
    """The server's data about a file while `<file>.part` is downloaded: `<file>.part.json`, kind `download`."""

    url: str
    size: Optional[int]  # of the whole file, bytes; None if unknown
    etag: Optional[str]
    modified: Optional[str]  # the Last-Modified header
    sha256: Optional[str]  # that Hugging Face sends

    @staticmethod
    def path(part: AnyPath) -> Path:
        return Path(f"{part}.json")

    def write(self, part: AnyPath) -> None:
        write_record(self.path(part), "download", asdict(self))

    @staticmethod
    def read(part: AnyPath) -> PartRecord:
        content = read_record(PartRecord.path(part), "download", hint=f"rm {part}")
        record: PartRecord = from_json(PartRecord, content, PartRecord.path(part), "part record")
        return record


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects only to http and https; urllib also follows them to ftp. `linked`: the last LINKED header."""

    linked = ""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        check_url(newurl, req.full_url)
        self.linked = headers.get(LINKED, self.linked)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def check_url(url: str, where: object) -> None:
    """Raise UserError unless `url`, from `where`, is an http or https URL with a host."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid or not re.fullmatch("[!-~]+", url):
        raise UserError("invalid URL", where=where, expected="an http or https URL", found=url)


def at_mirror(url: str) -> str:
    """`url`, with HF_ENDPOINT (if it is set) in place of https://huggingface.co."""
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/")
    if not endpoint or not url.startswith(f"{HUGGING_FACE}/"):
        return url
    check_url(endpoint, "HF_ENDPOINT")
    return endpoint + url[len(HUGGING_FACE) :]


def request(url: str, start: int, output: Path) -> Any:
    """The server's response for `url` from byte `start` on; None if the file has no such byte."""
    headers = {"User-Agent": "hrnet-ascend", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    by_hand = f"download it by hand to {output}"
    try:
        redirects = Redirects()
        opener = urllib.request.build_opener(redirects)
        response = opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and start:
            return None
        found = " ".join(f"{error.code} {error.reason}".split())
        raise UserError("the server rejected the request", where=url, found=found, hint=by_hand) from None
    except urllib.error.URLError as error:
        reason = getattr(error.reason, "strerror", None) or error.reason
        mirror = ", give HF_ENDPOINT=<URL of a mirror>" if url.startswith(f"{HUGGING_FACE}/") else ""
        hint = f"check the network{mirror}, or {by_hand}"
        raise UserError(f"cannot be reached: {reason}", where=url, hint=hint) from None
    except (OSError, http.client.HTTPException) as error:
        raise UserError(f"the server did not respond: {error}", where=url, hint=AGAIN) from None
    if redirects.linked:
        response.headers[LINKED] = redirects.linked
    kind = response.headers.get_content_type()
    if response.status not in (200, 206 if start else 200) or kind == "text/html":
        response.close()
        hint = f"open the URL in a browser, then {by_hand}"
        raise UserError("not a file", where=url, found=f"status {response.status}, {kind}", hint=hint)
    return response


def describe(response: Any, url: str) -> tuple[int, PartRecord]:
    """The offset of a response's first byte, and the properties of the whole file."""
    headers = response.headers
    ranged = re.fullmatch(r"bytes ([0-9]+)-[0-9]+/([0-9]+)", headers.get("Content-Range", ""))
    first, size = ranged.groups() if ranged and response.status == 206 else (0, headers.get("Content-Length", ""))
    known = int(size) if re.fullmatch("[0-9]+", size) else None
    linked = re.fullmatch('"?([0-9a-f]{64})"?', headers.get(LINKED, ""))
    sha256 = linked[1] if linked else None
    return int(first), PartRecord(url, known, headers.get("ETag"), headers.get("Last-Modified"), sha256)


def open_rest(url: str, part: Path, output: Path) -> tuple[Any, int, PartRecord]:
    """A response (None if `part` is complete), the offset of its first byte, and the properties of the whole file."""
    start = part.stat().st_size
    try:
        before = PartRecord.read(part) if start else None
    except FormatError:
        before = None  # a part without a valid record cannot be resumed
    if before and before.url == url:
        if start == before.size:
            return None, start, before
        response = request(url, start, output)
        if response and describe(response, url) == (start, before):
            print(f"{part}: resuming after {start} bytes")
            return response, start, before
        reason = "the server does not resume" if response and response.status == 200 else "the file has changed"
        print(f"{part}: {reason}, starting again")
        if response:
            response.close()
    response = request(url, 0, output)
    return response, *describe(response, url)


def receive(response: Any, file: IO[bytes], start: int, record: PartRecord) -> None:
    """Write the bytes of a response. Raises UserError if it ends before the end of the file."""
    done = start
    with tqdm(total=record.size, initial=start, unit="B", unit_scale=True, disable=None, leave=False) as bar:
        while True:
            try:
                block = response.read(BLOCK)
            except (OSError, http.client.HTTPException) as error:
                found = f"{done} bytes"
                raise UserError(f"the connection failed: {error}", where=record.url, found=found, hint=AGAIN) from None
            if not block:
                break
            file.write(block)
            done += len(block)
            bar.update(len(block))
    if not done or record.size not in (None, done):
        expected, found = f"{record.size or 'some'} bytes", f"{done} bytes"
        raise UserError("the connection ended early", where=record.url, expected=expected, found=found, hint=AGAIN)
