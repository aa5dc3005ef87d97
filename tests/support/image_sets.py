"""Small data sets on disk, a config for them, and readers of what preprocessing wrote."""

from __future__ import annotations

import functools
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hrnet.io.manifest import InputImage, Manifest
from preprocess import classification
from tests.support.reference_pixels import reference

CLASSES, RESIZE, CROP = 10, 40, 32
CONFIG = f"MODEL:\n  NUM_CLASSES: {CLASSES}\n  IMAGE_SIZE: [{CROP}, {CROP}]\nINPUT:\n  RESIZE: {RESIZE}\n"


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """Coarse random colours, which JPEG keeps."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


@functools.cache
def files_of_all_kinds() -> dict[str, bytes]:
    rgb = noise(300, 260)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    alpha = Image.fromarray(np.arange(256, dtype=np.uint8)[None].repeat(260, 0)).resize((300, 260))
    deep = Image.fromarray(np.random.default_rng(1).integers(0, 65536, (260, 300), np.uint16))
    assert deep.mode == "I;16"
    return {
        "rgb.JPEG": encoded(rgb, "JPEG"),
        "progressive.JPEG": encoded(rgb, "JPEG", progressive=True),
        "grey.JPEG": encoded(rgb.convert("L"), "JPEG"),
        "cmyk.JPEG": encoded(rgb.convert("CMYK"), "JPEG"),
        "rotated.JPEG": encoded(rgb, "JPEG", exif=exif),
        "png.JPEG": encoded(rgb, "PNG"),
        "palette.png": encoded(rgb.quantize(64), "PNG"),
        "transparent_palette.png": encoded(rgb.quantize(64), "PNG", transparency=bytes(range(64))),
        "rgba.png": encoded(Image.merge("RGBA", (*rgb.split(), alpha)), "PNG"),
        "grey_alpha.png": encoded(Image.merge("LA", (rgb.convert("L"), alpha)), "PNG"),
        "sixteen.png": encoded(deep, "PNG"),
        "one_bit.png": encoded(rgb.convert("1"), "PNG"),
        "first_of_two.gif": encoded(rgb, "GIF", save_all=True, append_images=[noise(300, 260, 9)]),
        "dot.png": encoded(noise(1, 1), "PNG"),
        "thin.png": encoded(noise(3, 500), "PNG"),
        "flat.png": encoded(noise(500, 3), "PNG"),
        "as_it_is.png": encoded(noise(256, 300), "PNG"),
        "half_pixels.png": encoded(noise(259, 257), "PNG"),
    }


def write_all_kinds(root: Path) -> None:
    """A data set of `files_of_all_kinds`."""
    files = files_of_all_kinds()
    (root / "val").mkdir()
    for name, data in files.items():
        (root / "val" / name).write_bytes(data)
    (root / "val_label.txt").write_text("".join(f"{name} {i}\n" for i, name in enumerate(files)))


def write_config(folder: Path, text: str = CONFIG) -> str:
    path = folder / "small.yaml"
    path.write_text(text)
    return str(path)


def write_images(folder: Path, names: list[str], size: tuple[int, int] = (50, 60)) -> None:
    """Write images that differ from each other: PNG if the suffix is .png, else JPEG."""
    for seed, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise(*size, seed).save(path, format="PNG" if path.suffix == ".png" else "JPEG")


def listed(root: Path, labels: dict[str, int]) -> Path:
    """The model zoo's layout: val/*.JPEG and val_label.txt."""
    write_images(root / "val", list(labels))
    (root / "val_label.txt").write_text("".join(f"{name} {label}\n" for name, label in labels.items()))
    return root


def prepare(cfg: str, dataset: Path, output: Path, *options: str) -> int:
    named = ["--cfg", cfg, "--dataset", str(dataset), "--output", str(output), "--workers", "1"]
    return classification.main([*named, *options])


def read_checked(root: Path, output: Path, size: int = RESIZE, crop: int = CROP) -> list[InputImage]:
    """The manifest's images, each of whose inputs equals the reference."""
    images = Manifest.read(output / "manifest.json").images
    for image in images:
        assert (output / f"{image.stem}.bin").read_bytes() == reference(root / image.source, size, crop), image.source
    return images


def record(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
