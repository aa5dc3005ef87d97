"""The metrics record of a reference: the accuracy of PyTorch, or of an ONNX file, on the images of a manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hrnet.io.files import make_folder
from hrnet.io.manifest import Manifest
from hrnet.io.records import write_record
from hrnet.io.stamp import Stamp, write_stamp


def describe(metrics: Mapping[str, float], classes: int) -> str:
    """`top1` to `top5` (percent) as text, without Top-N for N >= `classes`, which is always 100%."""
    return ", ".join(f"{name} {value:.2f}%" for name, value in list(metrics.items())[: max(1, classes - 1)])


def write_reference(
    products: Sequence[Path], figures: dict[str, Any], manifest: Manifest, stamp: Stamp, source: str, tool: str
) -> None:
    """Write the record to the last path of `products`, then its stamp. `figures`: metrics and counts; `source`: the
    role in `stamp.files` of the file whose accuracy this is; `tool`: what computed it."""
    record = {
        **figures,
        "weights_sha256": stamp.files[source],
        "code_sha256": stamp.code_sha256,
        "config_sha256": manifest.config_sha256,
        "images_sha256": manifest.images_sha256(),
        "tool": tool,
    }
    make_folder(products[-1].parent)
    write_record(products[-1], "metrics", record)
    write_stamp(products[-1], stamp, products)
