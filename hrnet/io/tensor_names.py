"""Names, dtypes and shapes of tensor files (hrnet/io/tensors.py). Does not import numpy: its import would take most of
the start-up time of scripts that only name files, such as infer.run.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

OUTPUT_FORMATS = ("BIN", "NPY", "TXT")
DTYPES = {"float32": 4, "float16": 2, "uint8": 1, "int8": 1, "int32": 4, "int64": 8}  # bytes of a value
INPUT_LAYOUTS = {"float32": "NCHW", "uint8": "NHWC"}  # by dtype: normalised planes, or pixels
NPY_HEADER = 128  # bytes of the npy header for up to four axes, with numpy 1.14 or later
MAX_STEM = 200  # characters; the file name, with extension and as a temporary name, has at most 255 bytes


def safe_stems(sources: Sequence[str]) -> list[str]:
    """A unique file stem for each image path, with only letters, digits, `_` and `-`: ais_bench rejects other
    characters in a path, and cuts a name at its first dot.

    `val/a b.JPEG` gives `a_b`; `val/n01440764/x.JPEG` gives `n01440764_x`; duplicates get `-2`, `-3`, … in order.
    """
    taken: dict[str, int] = {}  # stem -> the number of its last duplicate
    stems = []
    for source in sources:
        parts = Path(source).with_suffix("").parts
        preferred = re.sub(r"[^A-Za-z0-9_-]", "_", "_".join(parts[-2:] if len(parts) > 2 else parts[-1:]))[:MAX_STEM]
        stem, number = preferred, taken.get(preferred, 1)
        while stem in taken:
            number += 1
            stem = f"{preferred}-{number}"
        taken[preferred] = number
        taken[stem] = 1
        stems.append(stem)
    return stems


def input_shape(dtype: str, width: int, height: int) -> list[int]:
    """The shape of an input file, without the batch axis: [3, H, W] of float32, [H, W, 3] of uint8; sizes in pixels."""
    return [3, height, width] if INPUT_LAYOUTS[dtype] == "NCHW" else [height, width, 3]
