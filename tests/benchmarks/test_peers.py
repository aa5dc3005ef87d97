"""Benchmarks: turns, ratios, and an error when the results of two candidates differ."""

from __future__ import annotations

import json
import re
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from benchmarks import infer_loop, pose_decode, preprocess_peer, preprocess_pose_peer, topn_peer, upstream_pose
from benchmarks.turns import check_equal, in_turn, report
from hrnet.cli import WorkFailed
from hrnet.pose.decode import decode
from tests.support import ROOT
from tests.support.coco_sets import annotations, coco_set
from tests.support.gear_model import gear_folder, gear_model
from tests.support.linear_model import linear_model, prep_folder
from tests.support.pose_scenes import Outputs

PEER = """
import json, os, sys
import numpy as np
outputs, labels, folder, name = sys.argv[1:]
wanted = dict(line.split() for line in open(labels))
hits = np.zeros(5)
for file in os.listdir(outputs):
    ranked = np.argsort(-np.array(open(os.path.join(outputs, file)).read().split(), np.float32), kind="stable")
    place = ranked.tolist().index(int(wanted[file.rpartition("_")[0] + ".JPEG"]))
    hits[place:] += 1
count = len(os.listdir(outputs))
value = [{"key": "Number of images", "value": str(count)}, {"key": "Number of classes", "value": "1000"}]
value += [{"key": f"Top{n} accuracy", "value": f"{np.round(100 * hit / count, 2)}%"} for n, hit in enumerate(hits, 1)]
json.dump({"title": "Overall statistical evaluation", "value": value}, open(os.path.join(folder, name), "w"))
"""


def test_candidates_take_turns_and_the_first_round_does_not_count() -> None:
    seen: list[str] = []
    seconds = in_turn({"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, rounds=2)
    assert seen == ["a", "b"] * 3
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2}


def test_ratio_is_the_median_of_the_rounds(capsys: pytest.CaptureFixture[str]) -> None:
    report({"peer": [4.0, 2.0, 9.0], "ours": [1.0, 2.0, 3.0]}, images=100, peer="peer")
    assert capsys.readouterr().out == (
        "peer       25.0 images/s   1.00 x peer\nours       50.0 images/s   3.00 x peer\n"
    )


def test_topn_is_compared_with_a_peer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "peer.py").write_text(PEER)
    assert topn_peer.main(["--peer", str(tmp_path / "peer.py"), "--images", "20", "--rounds", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "20 outputs of 1000 classes, 1 rounds, medians; results are identical"
    assert [line[:13].strip() for line in lines[1:]] == ["peer from txt", "from txt", "from npy", "from bin"]


def test_a_peer_with_other_topn_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "peer.py").write_text(PEER.replace("hits[place:] += 1", "hits[:] += 1"))
    assert topn_peer.main(["--peer", str(tmp_path / "peer.py"), "--images", "20", "--rounds", "1"]) == 1
    assert "results differ" in capsys.readouterr().err


def test_images_and_labels_are_copied(tmp_path: Path) -> None:
    (tmp_path / "set/val").mkdir(parents=True)
    for name in ("a", "b"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"set/val/{name}.JPEG")
    (tmp_path / "set/val_label.txt").write_text("a.JPEG 3\nb.JPEG 4\n")
    assert preprocess_peer.link_copies(tmp_path / "set", tmp_path / "more", copies=2) == 4
    assert (tmp_path / "more/val_label.txt").read_text() == "0_a.JPEG 3\n1_a.JPEG 3\n0_b.JPEG 4\n1_b.JPEG 4\n"


def test_coco_images_and_annotations_are_copied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = coco_set(tmp_path / "coco", {"a.jpg": (20, 16), "b.jpg": (16, 20)})
    (source / "images/val2017/b.jpg").unlink()
    assert preprocess_pose_peer.link_copies(source, tmp_path / "more", copies=2) == 2
    listed = json.loads(annotations(tmp_path / "more").read_text())["images"]
    assert listed == [{"id": i, "file_name": f"{i}_a.jpg", "width": 20, "height": 16} for i in range(2)]
    assert preprocess_pose_peer.main(["--peer", str(tmp_path), "--dataset", str(source)]) == 2
    assert capsys.readouterr().err.startswith(f"benchmarks.preprocess_pose_peer: error: {tmp_path}: ")


@pytest.mark.parametrize("suffix", ["bin", "npy"])
def test_different_inputs_are_counted(suffix: str, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder in (ours, theirs):
        folder.mkdir()
        for name in ("a", "b"):
            (folder / f"{name}.{suffix}").write_bytes(bytes(8))
    check_equal(2, [(ours, theirs)])
    (ours / f"b.{suffix}").write_bytes(bytes(9))
    for count in (2, 3):
        with pytest.raises(WorkFailed) as caught:
            check_equal(count, [(ours, theirs)])
        assert caught.value.where == theirs and f"b.{suffix}" in str(caught.value.found)


def test_an_input_that_only_one_side_has_is_counted(tmp_path: Path) -> None:
    for folder, names in (("ours", "ab"), ("theirs", "bc")):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / f"{name}.bin").write_bytes(bytes(8))
    with pytest.raises(WorkFailed) as caught:
        check_equal(2, [(tmp_path / "ours", tmp_path / "theirs")])
    assert caught.value.found == "2 inputs, 2 differ: ['a.bin', 'c.bin']"


ZOO_PREPROCESS = """
import os, sys
mode, images, output = sys.argv[1:]
os.makedirs(output)
for name in os.listdir(images):
    open(os.path.join(output, name.split(".")[0] + ".bin"), "wb").write(SIZE * b"0")
"""


def test_a_peer_with_other_inputs_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "set/val").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "set/val/a.JPEG")
    (tmp_path / "set/val_label.txt").write_text("a.JPEG 3\n")
    (tmp_path / "peer.py").write_text(ZOO_PREPROCESS.replace("SIZE", "8"))
    given = ["--peer", str(tmp_path / "peer.py"), "--dataset", str(tmp_path / "set"), "--copies", "2", "--rounds", "1"]
    assert preprocess_peer.main(given) == 1
    assert "2 inputs, 2 differ" in capsys.readouterr().err


def test_the_emulator_is_compared_with_a_plain_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    prep_folder(Path("in"), 7)
    linear_model(Path("m.onnx"), 2)
    assert infer_loop.main(["--model", "m.onnx", "--inputs", "in", "--count", "7", "--rounds", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("6 images, batch 2, ")
    assert lines[1].startswith("plain loop ") and lines[1].endswith("1.00 x plain loop")
    assert lines[2].startswith("emulator, onnxruntime ")
    assert lines[3].startswith("in memory, onnxruntime ")
    assert lines[4].startswith("compute bound, sgemm ")


def test_both_passes_of_a_model_with_gears_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    gear_model(Path("m.onnx"))
    gear_folder(Path("in"), 4)
    given = ["--model", "m.onnx", "--inputs", "in", "--count", "3", "--rounds", "2", "--runtime", "onnxruntime"]
    assert infer_loop.main(given) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("3 images, both passes, ") and lines[0].endswith("2 rounds, medians")
    assert lines[1].startswith("plain loop ") and lines[1].count(" 1.00 x plain loop") == 2
    assert lines[2].startswith("infer.run, onnxruntime ")
    assert {path.name for path in tmp_path.iterdir()} == {"m.onnx", "m.onnx.json", "in"}


def test_multiply_adds_of_an_image_are_counted(tmp_path: Path) -> None:
    weights = numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4), helper.make_node("Relu", ["y"], ["z"])],
        "convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 8, 6])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [2, 4, 8, 6])],
        [weights],
    )
    onnx.save(helper.make_model(graph), str(tmp_path / "m.onnx"))
    assert infer_loop.multiply_adds(tmp_path / "m.onnx") == 4 * 8 * 6 * 3 * 3 * 3


class Peer:
    """A fake of upstream's decoder: our people, moved by some pixels."""

    def __init__(self, moved: float) -> None:
        self.moved = moved

    def __call__(self, checkout: Path) -> Peer:
        return self

    def decode(self, *pair: Outputs) -> tuple[np.ndarray, np.ndarray]:
        people = decode(*pair)
        return people.keypoints + np.float32(self.moved), people.scores


def test_poses_are_compared_with_a_peer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(pose_decode, "WIDTH", 160)
    monkeypatch.setattr(pose_decode, "HEIGHT", 128)
    monkeypatch.setattr(pose_decode, "UpstreamDecoder", Peer(0.0))
    call = ["--peer", ".", "--people", "2", "0", "--scenes", "1", "--rounds", "1"]
    assert pose_decode.main(call) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("1 scenes of 160 x 128, ") and lines[0].endswith("keypoints within 1e-3 pixels")
    assert re.fullmatch(r"  2 people: .* ms \(maps .*, refine .*\), upstream .* ms, .* x upstream", lines[1])
    assert lines[2].startswith("  0 people: ")

    monkeypatch.setattr(pose_decode, "UpstreamDecoder", Peer(0.01))
    assert pose_decode.main(call) == 1
    assert "2 people, scene 0: person 0 nose x: " in capsys.readouterr().err


def test_a_missing_checkout_of_upstream_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pose_decode.main(["--peer", str(tmp_path)]) == 2
    assert "git clone https://github.com/HRNet/HigherHRNet-Human-Pose-Estimation" in capsys.readouterr().err


@pytest.mark.parametrize("installed", ["3.0.0", "none"])
def test_another_munkres_is_rejected(
    installed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def version(name: str) -> str:
        if installed == "none":
            raise PackageNotFoundError(name)
        return installed

    (tmp_path / "lib/core").mkdir(parents=True)
    (tmp_path / "lib/core/group.py").touch()
    monkeypatch.setattr(upstream_pose, "version", version)
    assert pose_decode.main(["--peer", str(tmp_path)]) == 2
    line = capsys.readouterr().err
    assert f"found {installed}" in line and "pip install 'munkres<2'" in line
