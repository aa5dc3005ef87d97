"""Download and check the checkpoint of a config; an interrupted download is resumed.

    python -m data.weights --cfg hrnet_w18 --output weights/hrnet_w18.pth
    python -m data.weights --cfg hrnet_w18 --missing weights/hrnet_w18.pth     # prints a hint, exit 2

Reads    WEIGHTS.URL (http or https) and, where the publisher states it, WEIGHTS.MD5 of the config
Writes   <output>.part and its record <output>.part.json during the download; both are removed when <output> is complete
Resumes  a part file of the same URL, size, ETag and Last-Modified, if the server supports Range; else starts again
Checks   the size that the server sends, MD5, and the SHA-256 that Hugging Face sends; a file with another hash, or of
         another kind, is removed
HF_ENDPOINT (environment): a mirror of https://huggingface.co, such as https://hf-mirror.com
"""

from __future__ import annotations

import argparse
import http.client
import os
import re
import sys
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Optional
from urllib.parse import urlsplit

from tqdm import tqdm

from hrnet.cli import UserError, command
from hrnet.config import CONFIGS, add_cfg_argument, load_config
from hrnet.io.files import FILE_MODE, AnyPath, check_free_disk, locked, make_folder, md5_file, sha256_file
from hrnet.io.recognise import WEIGHTS, recognise
from hrnet.io.records import FormatError, from_json, read_record, write_record
from hrnet.schemas import CLASSIFICATION, POSE

TIMEOUT = 30  # seconds without data
BLOCK = 1 << 18  # bytes
AGAIN = "run the same command again to resume"
HUGGING_FACE = "https://huggingface.co"
LINKED = "X-Linked-ETag"  # Hugging Face's header: the SHA-256 of the file, sent with the redirect to its bytes
UPSTREAM = "https://github.com/HRNet/HRNet-Image-Classification"


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
    """`url`, at the mirror of Hugging Face that HF_ENDPOINT names, if it does."""
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
        raise UserError(f"cannot be reached: {reason}", where=url, hint=f"check the network, or {by_hand}") from None
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


def is_downloaded(output: Path, md5: str) -> bool:
    """Whether the checkpoint exists. Raises UserError if it is not the published file."""
    if not output.exists():
        return False
    found = md5_file(output) if md5 else ""
    if found != md5:
        hint = f"it is kept; if it is not yours: mv {output} {output}.old"
        raise UserError("MD5 mismatch with the published file", where=output, expected=md5, found=found, hint=hint)
    check_kind(output, output, f"it is kept; if it is not yours: mv {output} {output}.old")
    print(f"{output} exists, {'MD5 as published' if md5 else 'not checked: the config has no MD5'}")
    return True


def check_kind(file: Path, where: object, hint: str) -> None:
    """Raise UserError if `file`, downloaded from `where`, is another kind of file, such as an HTML page."""
    kind = recognise(file)
    if kind is not None and kind.name not in WEIGHTS:
        raise UserError("not a checkpoint", where=where, found=kind.name, hint=hint)


def download(url: str, output: Path, part: Path, md5: str) -> None:
    """Download `url` to `part`, check it, and rename it to `output`."""
    started = time.monotonic()
    response, start, record = open_rest(url, part, output)
    if response:
        with response:
            if not start:
                os.truncate(part, 0)  # first, so that the new record never describes old bytes
            check_free_disk(output.parent, (record.size or 0) - start, "give WEIGHTS= on a larger disk")
            record.write(part)
            try:
                with open(part, "ab") as file:
                    receive(response, file, start, record)
            except OSError as error:
                error.filename = error.filename or str(part)  # None for a full disk
                raise
    found, size = md5_file(part), part.stat().st_size
    hashes = [("MD5 mismatch with the config", md5, found)] if md5 else []
    hashes += [("SHA-256 mismatch with the server's", record.sha256, sha256_file(part))] if record.sha256 else []
    for what, expected, actual in hashes:
        if actual != expected:
            part.unlink()
            hint = "the download was removed; try again, or ask the publisher"
            raise UserError(what, where=url, expected=expected, found=actual, hint=hint)
    try:
        check_kind(
            part, url, f"the download was removed; open the URL in a browser, or download it by hand to {output}"
        )
    except UserError:
        part.unlink()
        raise
    os.chmod(part, FILE_MODE)
    if output.exists():
        raise UserError("appeared during the download, and is kept", where=output, hint=f"mv {part} {output}.new")
    os.replace(part, output)
    speed = (size - start) / 1e6 / max(time.monotonic() - started, 1e-9)
    checked = "MD5 as published" if md5 else f"MD5 {found}; the config has none to compare with"
    checked = "SHA-256 as published" if record.sha256 and not md5 else checked
    print(f"wrote {output} ({size / 1e6:.1f} MB, {speed:.1f} MB/s, {checked})")


def missing(cfg: Path, weights: Path) -> None:
    """Raise UserError with a hint how to get `weights`, unless the file exists."""
    if weights.exists():
        return
    url = at_mirror(load_config(cfg, CLASSIFICATION, POSE).WEIGHTS.URL)
    model = f"MODEL={cfg.stem}" if cfg.resolve().parent == CONFIGS.resolve() else f"CFG={cfg}"
    hint = f"make weights {model} downloads it from {url}" if url else "copy it there, or give WEIGHTS=<file>"
    raise UserError("no such checkpoint", where=weights, hint=hint)


def run(cfg: Path, output: Path) -> None:
    """Download the checkpoint of `cfg` to `output`, unless it exists."""
    weights = load_config(cfg, CLASSIFICATION, POSE).WEIGHTS
    if not weights.URL:
        hint = f"get the checkpoint from its publisher (most are at {UPSTREAM}) and copy it to {output}"
        raise UserError("no WEIGHTS.URL", where=cfg, hint=hint)
    check_url(weights.URL, f"{cfg}: WEIGHTS.URL")
    url = at_mirror(weights.URL)
    md5 = weights.MD5.lower()
    if is_downloaded(output, md5):
        return
    make_folder(output.parent)
    part = output.with_name(f"{output.name}.part")
    with locked(part):
        try:
            download(url, output, part, md5)
        finally:
            if not part.exists() or not part.stat().st_size:
                part.unlink(missing_ok=True)
                PartRecord.path(part).unlink(missing_ok=True)


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m data.weights", description=__doc__.splitlines()[0])
    add_cfg_argument(parser)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--output", type=Path, help="the checkpoint to write")
    action.add_argument("--missing", type=Path, metavar="WEIGHTS", help="print how to get this checkpoint, if missing")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    args = parse_args(argv)
    if args.missing:
        missing(args.cfg, args.missing)
    else:
        run(args.cfg, args.output)


if __name__ == "__main__":
    sys.exit(main())
