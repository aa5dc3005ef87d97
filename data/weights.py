"""Download the checkpoint that a config names: resumed where an earlier run ended, checked, whole or not there at all.

    python -m data.weights --cfg configs/hrnet_w18.yaml --output weights/hrnet_w18.pth

Reads    WEIGHTS.URL (http or https) and, where the publisher states it, WEIGHTS.MD5 of the config
Writes   <output>.part and its record <output>.part.json while it loads; both are gone when <output> stands there
Resumes  a part file of the same URL, size, ETag and Last-Modified, where the server takes a Range; else starts afresh
Checks   the size that the server told, and MD5; a file of another hash is removed, since no rerun can mend it
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
from pathlib import Path
from typing import IO, Any, Optional
from urllib.parse import urlsplit

from tqdm import tqdm

from hrnet.cli import UserError, command
from hrnet.config import load_config
from hrnet.io.files import FILE_MODE, check_free_disk, locked, make_folder, md5_file
from hrnet.io.records import FormatError
from hrnet.io.runs import PartRecord

TIMEOUT = 30  # seconds without a byte
BLOCK = 1 << 18  # bytes
AGAIN = "run the same command again to resume"
UPSTREAM = "https://github.com/HRNet/HRNet-Image-Classification"


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follow to http and https alone: urllib itself would go to ftp too."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        check_url(newurl, req.full_url)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def check_url(url: str, where: object) -> None:
    """Raise UserError unless `url`, which stands in `where`, is one of http or https with a host."""
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        fits = False
    if not fits or not re.fullmatch("[!-~]+", url):
        raise UserError("cannot load from there", where=where, expected="an http or https URL", found=url)


def request(url: str, start: int, output: Path) -> Any:
    """The server's answer to a call for `url` from byte `start` on; None where it has no such byte."""
    headers = {"User-Agent": "hrnet-ascend", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    by_hand = f"load it by hand and put it to {output}"
    try:
        opener = urllib.request.build_opener(Redirects)
        answer = opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and start:
            return None
        found = " ".join(f"{error.code} {error.reason}".split())
        raise UserError("the server refused", where=url, found=found, hint=by_hand) from None
    except urllib.error.URLError as error:
        reason = getattr(error.reason, "strerror", None) or error.reason
        raise UserError(f"cannot be reached: {reason}", where=url, hint=f"check the network, or {by_hand}") from None
    except (OSError, http.client.HTTPException) as error:
        raise UserError(f"the server gave no answer: {error}", where=url, hint=AGAIN) from None
    kind = answer.headers.get_content_type()
    if answer.status not in (200, 206 if start else 200) or kind == "text/html":
        answer.close()
        raise UserError("is no file", where=url, found=f"{answer.status}, {kind}", hint=f"open it and {by_hand}")
    return answer


def told_of(answer: Any, url: str) -> tuple[int, PartRecord]:
    """The byte that an answer begins with, and what it says of the whole file."""
    ranged = re.fullmatch(r"bytes ([0-9]+)-[0-9]+/([0-9]+)", answer.headers.get("Content-Range", ""))
    first, size = ranged.groups() if ranged and answer.status == 206 else (0, answer.headers.get("Content-Length", ""))
    known = int(size) if re.fullmatch("[0-9]+", size) else None
    return int(first), PartRecord(url, known, answer.headers.get("ETag"), answer.headers.get("Last-Modified"))


def open_rest(url: str, part: Path, output: Path) -> tuple[Any, int, PartRecord]:
    """An answer, the byte that it begins with, and what is known of the whole file; None: all bytes are there."""
    start = part.stat().st_size
    try:
        before = PartRecord.read(part) if start else None
    except FormatError:
        before = None  # a part that nothing is known of is of no use
    if before and before.url == url:
        if start == before.size:
            return None, start, before
        answer = request(url, start, output)
        if answer and told_of(answer, url) == (start, before):
            print(f"{part}: going on after {start} bytes")
            return answer, start, before
        why = "the server does not resume" if answer and answer.status == 200 else "the file has changed"
        print(f"{part}: {why}, starting afresh")
        if answer:
            answer.close()
    answer = request(url, 0, output)
    return answer, *told_of(answer, url)


def receive(answer: Any, file: IO[bytes], start: int, told: PartRecord) -> None:
    """Write what the server sends. Raises UserError when it ends before the size that was told."""
    done = start
    with tqdm(total=told.size, initial=start, unit="B", unit_scale=True, disable=None, leave=False) as bar:
        while True:
            try:
                block = answer.read(BLOCK)
            except (OSError, http.client.HTTPException) as error:
                found = f"{done} bytes"
                raise UserError(f"the connection broke: {error}", where=told.url, found=found, hint=AGAIN) from None
            if not block:
                break
            file.write(block)
            done += len(block)
            bar.update(len(block))
    if not done or told.size not in (None, done):
        expected, found = f"{told.size or 'some'} bytes", f"{done} bytes"
        raise UserError("the connection ended early", where=told.url, expected=expected, found=found, hint=AGAIN)


def is_there(output: Path, md5: str) -> bool:
    """Whether the checkpoint is there already. Raises UserError when it is another file than the published one."""
    if not output.exists():
        return False
    found = md5_file(output) if md5 else ""
    if found != md5:
        hint = f"to load it, move this one away: mv {output} {output}.old"
        raise UserError("is another file than the published one", where=output, expected=md5, found=found, hint=hint)
    print(f"{output} is there already, {'MD5 as published' if md5 else 'unchecked: the config knows no MD5'}")
    return True


def load(url: str, output: Path, part: Path, md5: str) -> None:
    """Load `url` into `part`, check it, and make it `output`."""
    begun = time.monotonic()
    answer, start, told = open_rest(url, part, output)
    if answer:
        with answer:
            if not start:
                os.truncate(part, 0)  # before the record, which must not speak of another file's bytes
            check_free_disk(output.parent, (told.size or 0) - start, "give WEIGHTS= on a larger disk")
            told.write(part)
            try:
                with open(part, "ab") as file:
                    receive(answer, file, start, told)
            except OSError as error:
                error.filename = error.filename or str(part)  # a full disk tells no name
                raise
    found, size = md5_file(part), part.stat().st_size
    if md5 and found != md5:
        part.unlink()
        hint = "it was removed; load it again, or ask its publisher"
        raise UserError("has another MD5 than the config", where=url, expected=md5, found=found, hint=hint)
    os.chmod(part, FILE_MODE)
    os.replace(part, output)
    rate = (size - start) / 1e6 / max(time.monotonic() - begun, 1e-9)
    checked = "MD5 as published" if md5 else f"MD5 {found}, which the config does not know"
    print(f"wrote {output} ({size / 1e6:.1f} MB, {rate:.1f} MB/s, {checked})")


def run(cfg: Path, output: Path) -> None:
    """Download the checkpoint of `cfg` to `output`, unless it is there."""
    weights = load_config(cfg).WEIGHTS
    if not weights.URL:
        hint = f"take the checkpoint from where it was published or trained (most: {UPSTREAM}) and put it to {output}"
        raise UserError("has no WEIGHTS.URL", where=cfg, hint=hint)
    check_url(weights.URL, f"{cfg}: WEIGHTS.URL")
    md5 = weights.MD5.lower()
    if is_there(output, md5):
        return
    make_folder(output.parent)
    part = output.with_name(f"{output.name}.part")
    with locked(part):
        try:
            load(weights.URL, output, part, md5)
        finally:
            if not part.exists() or not part.stat().st_size:
                part.unlink(missing_ok=True)
                PartRecord.path(part).unlink(missing_ok=True)


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m data.weights", description=__doc__.splitlines()[0])
    parser.add_argument("--cfg", type=Path, required=True, help="the model's YAML, with WEIGHTS.URL")
    parser.add_argument("--output", type=Path, required=True, help="where the checkpoint goes")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(**vars(parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
