"""train/classification/reference.py: its arithmetic by hand, and its record on a small data set."""

from __future__ import annotations

import json
import os
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hrnet.config import config_sha256, load_config
from hrnet.images import Transform
from hrnet.io.files import sha256_file
from hrnet.io.manifest import InputImage, Manifest
from hrnet.nets import checkpoint
from hrnet.schemas import INTERPOLATIONS, RESIZERS
from tests.support import reference_pixels, tiny
from tests.train.calls import error_line
from train.classification import reference


@pytest.fixture
def config(tmp_path):
    return load_config(tiny.write_config(tmp_path))  # RESIZE 80, IMAGE_SIZE 64


def test_an_image_of_the_nets_size_is_only_normalised(config):
    config = config.clone()
    config.defrost()
    config.INPUT.RESIZE = 64
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    found = reference.prepare(Image.fromarray(pixels), config)
    assert (found.shape, found.dtype) == ((3, 64, 64), np.float32)
    expected = (pixels[5, 7] / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    assert np.allclose(found[:, 5, 7], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "resized", "corner"),
    [
        ((100, 333), (80, 266), (8, 101)),  # 266.4 is rounded down
        ((333, 100), (266, 80), (101, 8)),
        ((100, 100), (80, 80), (8, 8)),
        ((99, 100), (80, 80), (8, 8)),  # 80.8 is rounded down
        ((80, 83), (80, 83), (8, 10)),  # the short side fits: no resize; 9.5 rounds to the even 10
        ((85, 80), (85, 80), (10, 8)),
    ],
)
def test_resize_and_crop_give_these_pixels(config, size, resized, corner):
    pixels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    left, top = corner
    crop = image.resize(resized, Image.Resampling.BILINEAR).crop((left, top, left + 64, top + 64))
    mean, std = np.float32(config.INPUT.MEAN), np.float32(config.INPUT.STD)
    expected = (np.asarray(crop, np.float32) / np.float32(255) - mean) / std
    assert np.array_equal(reference.prepare(image, config), expected.transpose(2, 0, 1))


def changed(config, **values):
    config = config.clone()
    config.defrost()
    config.INPUT.update(values)
    return config


@pytest.mark.parametrize("size", [(100, 333), (333, 100), (160, 163), (80, 81), (30, 20)])
def test_inputs_resized_by_cv2_equal_those_of_paddleclas(config, size):
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    expected = reference_pixels.paddleclas_normalise(reference_pixels.paddleclas_crop(np.asarray(image), 80, (64, 64)))
    assert reference.prepare(image, changed(config, RESIZER="cv2")).tobytes() == expected.tobytes()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(RESIZERS), st.sampled_from(INTERPOLATIONS))
def test_inputs_equal_those_of_preprocess_to_the_bit(tmp_path_factory, width, height, resizer, interpolation):
    """preprocess's inputs equal those of the reference, to the bit."""
    base = load_config(tiny.write_config(tmp_path_factory.mktemp("config")))
    config = changed(base, RESIZER=resizer, INTERPOLATION=interpolation)
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected = reference.prepare(Image.fromarray(pixels), config)
    assert Transform.of(config).to_input(pixels, "float32").tobytes() == expected.tobytes()


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "RGBA"])
def test_any_mode_is_converted_to_rgb(config, mode):
    image = Image.fromarray(np.random.default_rng(2).integers(0, 256, (90, 90, 3), dtype=np.uint8)).convert(mode)
    assert np.array_equal(reference.prepare(image, config), reference.prepare(image.convert("RGB"), config))


def test_hits_equal_those_computed_by_hand():
    logits = np.array([[5, 4, 3, 2, 1, 0], [0, 1, 2, 3, 4, 5], [1, 1, 0, 0, 0, 0], [9, 8, 7, 6, 5, 4]], np.float32)
    assert reference.count_hits(logits, np.array([0, 3, 1, 5])).tolist() == [1, 2, 3, 3, 3]


@given(st.integers(2, 9), st.integers(1, 20), st.integers(0, 999))
def test_hits_grow_with_n(classes, images, seed):
    random = np.random.default_rng(seed)
    logits = random.normal(size=(images, classes)).astype(np.float32)
    values = reference.count_hits(logits, random.integers(0, classes, images)).tolist()
    assert len(values) == min(5, classes)
    assert values == sorted(values)
    assert classes > 5 or values[-1] == images


@pytest.fixture
def dataset(tmp_path):
    """Five images, their manifest, and the tiny net's weights; returns the script's arguments."""
    weights = tiny.write_weights(tmp_path)
    random = np.random.default_rng(3)
    (tmp_path / "val").mkdir()
    images = []
    for number in range(5):
        source = f"val/{number}.png"
        Image.fromarray(random.integers(0, 256, (90 + number, 100, 3), dtype=np.uint8)).save(tmp_path / source)
        images.append(InputImage(str(number), source, number, 100, 90 + number, [3, 64, 64]))
    digest = config_sha256(load_config(tmp_path / "tiny.yaml"))
    manifest = Manifest("imagenet", digest, "", "float32", "NCHW", "bin", tiny.CLASSES, 0, images)
    manifest.write(tmp_path / "manifest.json")
    return {
        "--cfg": tmp_path / "tiny.yaml",
        "--weights": weights,
        "--manifest": tmp_path / "manifest.json",
        "--dataset": tmp_path,
        "--output": tmp_path / "out" / "reference.json",
    }


def call(arguments, **more) -> int:
    changed = {**arguments, **{f"--{name}": value for name, value in more.items()}}
    return reference.main([str(part) for pair in changed.items() for part in pair])


def test_the_record_and_logits_are_written(dataset, tmp_path, capsys):
    assert call(dataset, logits=tmp_path / "out" / "logits.npy", batch_size=2) == 0
    logits = np.load(tmp_path / "out" / "logits.npy")
    assert (logits.shape, logits.dtype) == ((5, 7), np.float32)
    net = tiny.build(tmp_path)
    for number in range(5):
        with Image.open(tmp_path / "val" / f"{number}.png") as image:
            x = torch.from_numpy(reference.prepare(image, load_config(dataset["--cfg"])))
        with torch.inference_mode():
            assert np.allclose(net(x[None]).numpy()[0], logits[number], atol=1e-5)
    record = json.loads(dataset["--output"].read_text(encoding="utf-8"))
    assert record["kind"] == "metrics"
    assert record["metrics"]["top1"] == 20.0 * (logits.argmax(axis=1) == np.arange(5)).sum()
    assert (record["images"], record["classes"]) == (5, 7)
    assert record["predicted"] == logits.argmax(axis=1).tolist()
    assert record["weights_sha256"] == sha256_file(dataset["--weights"])
    assert record["images_sha256"] == Manifest.read(dataset["--manifest"]).images_sha256()
    assert record["metrics"] == {f"top{n}": 20.0 * hits for n, hits in enumerate(record["hits"], 1)}
    assert record["tool"] == f"torch {torch.__version__.split('+')[0]}"
    assert capsys.readouterr().out.startswith(f"wrote {dataset['--output']} (5 images, top1 ")


def test_a_second_run_computes_only_after_a_change(dataset, tmp_path, monkeypatch):
    """The record is touched if inputs, settings and code are the same."""
    logits, output = tmp_path / "out/logits.npy", dataset["--output"]
    work = Mock(side_effect=reference.logits_of)
    monkeypatch.setattr(reference, "logits_of", work)

    def works(**more) -> bool:
        work.reset_mock()
        assert call(dataset, logits=logits, **more) == 0
        return work.called

    assert works()
    before = output.read_bytes()
    os.utime(output, (1, 1))
    assert not works() and output.stat().st_mtime > 1 and output.read_bytes() == before
    assert works(batch_size=2) and works() and not works()
    logits.write_bytes(b"damaged")
    assert works() and not works()
    output.unlink()
    assert works() and not works()
    net = tiny.build(tmp_path)
    net.classifier.bias.data += 1
    checkpoint.save(net, dataset["--weights"])
    assert works() and not works()
    with monkeypatch.context() as patch:
        patch.setattr("hrnet.io.stamp.code_sha256", lambda *modules: "other code")
        assert works() and not works()


def error_of(capsys, dataset, **more) -> str:
    error = error_line(capsys, lambda: call(dataset, **more))
    assert not dataset["--output"].exists()
    return error


def test_a_missing_and_a_truncated_image_are_rejected(dataset, tmp_path, capsys):
    path = tmp_path / "val" / "3.png"
    path.write_bytes(path.read_bytes()[:2000])
    assert f"{path}: " in error_of(capsys, dataset)
    path.unlink()
    error = error_of(capsys, dataset)
    assert f"{path}: " in error and "--dataset" in error


def test_a_manifest_of_a_different_config_is_rejected(dataset, tmp_path, capsys):
    cfg = tmp_path / "other.yaml"
    cfg.write_text(tiny.CONFIG.replace("RESIZE: 80", "RESIZE: 81"), encoding="utf-8")
    error = error_of(capsys, dataset, cfg=cfg)
    assert f"{dataset['--manifest']}: " in error and f"run preprocess with {cfg}" in error


def test_labels_beyond_the_nets_classes_are_rejected(dataset, capsys):
    manifest = Manifest.read(dataset["--manifest"])
    far = InputImage("9", "val/0.png", tiny.CLASSES, 100, 90, [3, 64, 64])
    wider = Manifest(**{**vars(manifest), "classes": tiny.CLASSES + 1, "images": [*manifest.images, far]})
    wider.write(dataset["--manifest"])
    assert "(expected labels below 7, found 7)" in error_of(capsys, dataset)


def test_a_missing_manifest_is_rejected(dataset, tmp_path, capsys):
    assert str(tmp_path / "none.json") in error_of(capsys, dataset, manifest=tmp_path / "none.json")
