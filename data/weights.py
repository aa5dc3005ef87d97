"""Download and check the checkpoint of a config; an interrupted download is resumed.

    python -m data.weights --cfg hrnet_w18 --output weights/hrnet_w18.pth
    python -m data.weights --cfg hrnet_w18 --missing weights/hrnet_w18.pth     # prints a hint, exit 2

Reads    WEIGHTS.URL (http or https) and, where the publisher states it, WEIGHTS.MD5 of the config
Writes   <output>.part and its record <output>.part.json during the download; both are removed when <output> is complete
Resumes  a part file of the same URL, size, ETag and Last-Modified, if the server supports Range; else starts again
Checks   the size that the server sends, MD5, and the SHA-256 that Hugging Face sends; a download with another
         hash, or that is not a checkpoint, is removed
HF_ENDPOINT (environment): a mirror of https://huggingface.co, such as https://hf-mirror.com
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Optional

from data.http_download import PartRecord, at_mirror, check_url, open_rest, receive
from hrnet.cli import UserError, command
from hrnet.config import CONFIGS, add_cfg_argument, load_config
from hrnet.io.files import FILE_MODE, check_free_disk, locked, make_folder, md5_file, sha256_file
from hrnet.io.recognise import WEIGHTS, recognise
from hrnet.schemas import CLASSIFICATION, POSE

UPSTREAM = "https://github.com/HRNet/HRNet-Image-Classification"


def is_downloaded(output: Path, md5: str) -> bool:
    """Whether the checkpoint exists. Raises UserError if it is not the published file."""
    if not output.exists():
        return False
    found = md5_file(output) if md5 else ""
    hint = f"it is kept; to download the published file, first: mv {output} {output}.old"
    if found != md5:
        raise UserError("MD5 mismatch with the published file", where=output, expected=md5, found=found, hint=hint)
    check_kind(output, output, hint)
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
            check_free_disk(output.parent, (record.size or 0) - start, "give WEIGHTS=<file on a larger disk>")
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
        if output.exists():  # such as the checkpoints of the demos
            check_kind(output, output, "it is kept; give WEIGHTS=<another file>")
            print(f"{output} exists; {cfg} has no WEIGHTS.URL to download it from")
            return
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
