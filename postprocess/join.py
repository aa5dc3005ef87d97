"""The keypoints of chunks -> those of all images.

    python -m postprocess.join --manifest build/higher_hrnet_w32_512/prep/coco-float32/manifest.json
        --parts build/higher_hrnet_w32_512/eval/coco-float32/onnxruntime-bs1-fp32/parts
        --output build/higher_hrnet_w32_512/eval/coco-float32/onnxruntime-bs1-fp32/keypoints.json

Reads    the manifest of all images, and `<parts>/<i>.json` with their records, as postprocess.decode wrote them
Writes   the keypoints of all chunks in order, then the record beside them
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections import Counter
from pathlib import Path
from typing import Optional

from hrnet.cli import command
from hrnet.io.coco import read_keypoints, write_keypoints
from hrnet.io.files import make_folder, natural_key, sha256_file
from hrnet.io.manifest import Manifest
from hrnet.io.records import FormatError
from hrnet.io.runs import DecodeRecord


def run(whole: Path, parts: Path, output: Path) -> None:
    """Write the people of all chunks into one file."""
    manifest, hint = Manifest.read(whole), f"rm -r {parts}; make eval"
    files = [path for path in parts.glob("[0-9]*.json") if path.name.count(".") == 1]
    files.sort(key=lambda path: natural_key(path.name))
    records = [DecodeRecord.read(path) for path in files]
    images = sum(record.images for record in records)
    if images != len(manifest.images):
        raise FormatError("images of all chunks", where=parts, expected=len(manifest.images), found=images, hint=hint)
    if len({(record.model_sha256, record.flip) for record in records}) > 1:
        raise FormatError("chunks of several models", where=parts, hint=hint)
    people = [person for path in files for person in read_keypoints(path)]
    seconds: Counter[str] = Counter()
    for record in records:
        seconds.update(record.seconds)
    make_folder(output.parent)
    write_keypoints(output, people)
    dataclasses.replace(
        records[0],
        manifest_sha256=sha256_file(whole),
        keypoints_sha256=sha256_file(output),
        images=images,
        people=len(people),
        inferred=sum(record.inferred for record in records),
        seconds=dict(seconds),
    ).write(output)
    print(f"found {len(people)} people on {images} images in {len(files)} chunks, {output}")


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m postprocess.join", description=__doc__.splitlines()[0])
    parser.add_argument("--manifest", dest="whole", type=Path, required=True, help="manifest.json of all images")
    parser.add_argument("--parts", type=Path, required=True, help="directory of the chunks' keypoints")
    parser.add_argument("--output", type=Path, required=True, help="the keypoints to write")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(**vars(parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
