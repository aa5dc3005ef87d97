"""INPUT.RESIZER, INTERPOLATION and RESIZE: the inputs for each value; after a change, all inputs are written again."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from hrnet.io.manifest import Manifest
from preprocess.folder import RECORDS
from tests.support.image_sets import contents, listed, prepare, record, write_all_kinds, write_config
from tests.support.reference_pixels import centre_crop, normalise, paddleclas_crop, paddleclas_normalise, resize

SHORT, SIDE = 70, 64
DTYPES = ["float32", "uint8"]


def config(folder: Path, *more: str, short: int = SHORT) -> str:
    text = f"MODEL: {{NUM_CLASSES: 99, IMAGE_SIZE: [{SIDE}, {SIDE}]}}\nINPUT:\n  RESIZE: {short}\n"
    return write_config(folder, text + "".join(f"  {line}\n" for line in more))


def decoded(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def by_paddleclas(path: Path, dtype: str, method: int) -> bytes:
    pixels = paddleclas_crop(decoded(path), SHORT, (SIDE, SIDE), method)
    return (pixels if dtype == "uint8" else paddleclas_normalise(pixels)).tobytes()


def by_pillow(path: Path, dtype: str, method: Image.Resampling, short: int = SHORT) -> bytes:
    pixels = np.asarray(centre_crop(resize(Image.fromarray(decoded(path)), short, method), SIDE))
    return (pixels if dtype == "uint8" else normalise(pixels)).tobytes()


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")  # Pillow warns about transparent_palette.png
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_every_kind_of_image_equals_paddleclas(dtype: str, interpolation: str, tmp_path: Path, output: Path) -> None:
    """From the same decoded pixels, since PaddleClas' decoder applies EXIF orientation."""
    write_all_kinds(tmp_path)
    cfg = config(tmp_path, "RESIZER: cv2", f"INTERPOLATION: {interpolation}")
    assert prepare(cfg, tmp_path, output, "--input_dtype", dtype) == 0
    method = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}[interpolation]
    images = Manifest.read(output / "manifest.json").images
    assert len(images) == len(os.listdir(tmp_path / "val"))
    for image in images:
        expected = by_paddleclas(tmp_path / image.source, dtype, method)
        assert (output / f"{image.stem}.bin").read_bytes() == expected, image.source


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_changed_setting_makes_all_inputs_again(dtype: str, tmp_path: Path, output: Path) -> None:
    listed(tmp_path, {"a.JPEG": 0, "b.JPEG": 1})
    for name in "ab":
        noise = np.random.default_rng(ord(name)).integers(0, 256, (97, 111, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"val/{name}.JPEG")
    steps = [
        ([], SHORT, lambda path: by_pillow(path, dtype, Image.Resampling.BILINEAR)),
        (["INTERPOLATION: bicubic"], SHORT, lambda path: by_pillow(path, dtype, Image.Resampling.BICUBIC)),
        (["RESIZER: cv2"], SHORT, lambda path: by_paddleclas(path, dtype, cv2.INTER_LINEAR)),
        ([], 67, lambda path: by_pillow(path, dtype, Image.Resampling.BILINEAR, 67)),  # timm's crop_pct 0.95
    ]
    seen = set()
    for lines, short, expected in steps:
        cfg = config(tmp_path, *lines, short=short)
        assert prepare(cfg, tmp_path, output, "--input_dtype", dtype) == 0
        for name in "ab":
            assert (output / f"{name}.bin").read_bytes() == expected(tmp_path / f"val/{name}.JPEG"), lines
        before = contents(output)
        assert {*before} == {"a.bin", "b.bin", *RECORDS}
        seen.add((before["a.bin"], before["settings.json"]))
        (output / "b.bin").unlink()  # a rerun with equal settings keeps the other input
        os.utime(output / "a.bin", ns=(0, 0))
        assert prepare(cfg, tmp_path, output, "--input_dtype", dtype) == 0
        assert (output / "a.bin").stat().st_mtime_ns == 0 and contents(output) == before
    assert len(seen) == len(steps)


def test_the_version_of_opencv_counts_only_where_it_resizes(tmp_path: Path, output: Path) -> None:
    listed(tmp_path, {"a.JPEG": 0})
    for lines, listed_there in ([], False), (["RESIZER: cv2"], True):
        assert prepare(config(tmp_path, *lines), tmp_path, output) == 0
        decoders = record(output / "settings.json")["settings"]["decoders"]
        assert (f"opencv {cv2.__version__}" in decoders) == listed_there


def test_several_processes_resize_with_cv2(tmp_path: Path, output: Path) -> None:
    listed(tmp_path, {f"img{i}.JPEG": i for i in range(40)})
    cfg = config(tmp_path, "RESIZER: cv2")
    assert prepare(cfg, tmp_path, output) == 0
    alone = contents(output)
    other = tmp_path / "other"
    assert prepare(cfg, tmp_path, other, "--workers", "2") == 0
    assert {name: data for name, data in contents(other).items() if name.endswith("bin")} == {
        name: data for name, data in alone.items() if name.endswith("bin")
    }
