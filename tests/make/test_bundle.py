"""make/bundle.py without make; tests/test_bundle.py unpacks a bundle and runs it."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections import namedtuple
from pathlib import Path
from typing import Optional

import pytest

from hrnet.code import import_closure
from hrnet.io.files import sha256_file
from hrnet.io.manifest import Manifest
from hrnet.io.records import write_record
from make import bundle, bundle_help
from tests.support import ROOT
from tests.support.gear_model import gear_folder, gear_model
from tests.support.linear_model import linear_model, prep_folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    linear_model(Path("m.onnx"), 2)
    prep_folder(Path("in"), 3)
    write_record("in/settings.json", "settings", {"settings": {"limit": 0}})
    Path("c.yaml").write_text("INPUT: {}\n")
    Path("Makefile").write_text("all:\n")
    return tmp_path


def call(*more: str) -> int:
    words = ["--output", "out/b.tar", "--cfg", "c.yaml", "--model", "m.onnx", "--inputs", "in", *more]
    return bundle.main(words)


def contents(member: str) -> str:
    with tarfile.open("out/b.tar") as archive:
        file = archive.extractfile(f"{archive.getnames()[0]}/{member}")
        assert file is not None
        return file.read().decode()


def test_a_bundle_has_settings_and_a_readme(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--set", "GATE=2", "--set", "BATCHES=1,4") == 0
    *settings, targets, rejection = contents("bundle.mk").splitlines()[1:]
    assert (
        targets == "export BUNDLE_TARGETS := infer eval gate predict serve doctor clean help" and "error" in rejection
    )
    assert settings == [
        "MODEL ?= c",
        "BUILD ?= build",
        "include make/settings.mk",
        "PYTHON ?= python3",
        "OM ?= model/m.onnx",
        "PREP ?= prep/in",
        "GATE ?= 2",
        "BATCHES ?= 1,4",
    ]
    readme = contents("README.md")
    assert "pip install -c constraints.txt numpy Pillow PyYAML tqdm yacs onnxruntime\nmake infer eval\n" in readme
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("packed the model, 3 inputs and 9 files into out/b.tar (0.0 MB); on the board:")
    assert second.startswith("tar -xf b.tar && cd b-") and second.endswith(" && cat README.md")
    assert Path("out/b.tar").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (None, "was not evaluated"),
        ({"verdict": "pass"}, ""),
        ({"verdict": "pass", "evaluated": {"model_sha256": "0"}}, "was not evaluated"),
        ({"verdict": "fail"}, "failed its gate where it was packed: a drop of 3.00 points, 1 allowed"),
        ({"verdict": "not judged", "why": "no reference"}, "was not judged where it was packed: no reference"),
        ({"verdict": "passed"}, "was not evaluated"),
        ({"evaluated": []}, "was not evaluated"),
    ],
)
def test_a_model_that_did_not_pass_has_a_warning(
    record: Optional[dict[str, object]], words: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if record is not None:
        whole = {"evaluated": {"model_sha256": sha256_file("m.onnx")}, "gate": {"allowed_points": 1.0}}
        write_record("m.json", "metrics", {**whole, "drop": {"points": 3.0}, **record})
    assert call("--metrics", "m.json") == 0
    err, readme = capsys.readouterr().err, contents("README.md")
    assert err.count("\n") == bool(words) and ("make eval" in err) == ("not evaluated" in words)
    assert ("arning" in err) == ("arning" in readme) == bool(words) and words in err and words in readme


def test_the_files_that_a_config_names_are_packed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("names.txt").write_text("cat\ndog\n")
    Path("c.yaml").write_text("MODEL: {NUM_CLASSES: 2}\nINPUT: {CLASS_NAMES: names.txt}\n")
    assert call() == 0
    assert contents("configs/names.txt") == "cat\ndog\n"
    Path("c.yaml").write_text(f"MODEL: {{NUM_CLASSES: 2}}\nINPUT: {{CLASS_NAMES: {place}/names.txt}}\n")
    assert call() == 0
    (place / "deep").mkdir()
    shutil.copy("c.yaml", "deep/c.yaml")
    assert call("--cfg", "deep/c.yaml") == 0 and contents("names.txt"), "it is beside configs/ in the bundle"
    Path("deep/c.yaml").write_text("MODEL: {NUM_CLASSES: 2}\nINPUT: {CLASS_NAMES: ../../names.txt}\n")
    shutil.copy("names.txt", place.parent / "names.txt")
    assert call("--cfg", "deep/c.yaml") == 2
    assert "names.txt: cannot be packed" in capsys.readouterr().err


def test_the_readme_names_the_runtime_that_is_used(place: Path) -> None:
    assert call("--set", "BACKEND=openvino") == 0
    assert "pip install -c constraints.txt numpy Pillow PyYAML tqdm yacs openvino\n" in contents("README.md")


def test_the_readme_for_an_npu_names_both_interpreters() -> None:
    npu = bundle.readme_text("m", "model/m.om", "prep/in", None, False)
    both = "If AIS_PYTHON is another interpreter than `python3`, install all packages in both."
    assert both in npu and "\n${AIS_PYTHON:-python3} -m pip install " in npu
    assert "AIS_PYTHON" not in bundle.readme_text("m", "model/m.onnx", "prep/in", "onnxruntime", False)


def pose(*more: str) -> int:
    words = ["--output", "out/b.tar", "--cfg", "c.yaml", "--model", "m.onnx", *more]
    return bundle.main(words)


def test_pose_packs_annotations_and_flipped_inputs(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gear_model(Path("m.onnx"))
    shutil.rmtree("in")
    gear_folder(Path("in"), 3)
    write_record("in/settings.json", "settings", {"settings": {"limit": 0}})
    Path("people.json").write_text("{}")
    given = ["--inputs", "in", "--annotations", "people.json"]
    assert pose(*given) == 0
    lines = contents("bundle.mk").splitlines()
    assert "PREP ?= prep/in" in lines and "DATASET ?= data" in lines
    assert contents("data/annotations/people.json") == "{}"
    packages = "numpy Pillow PyYAML tqdm yacs onnxruntime opencv-python-headless pycocotools"
    assert f"pip install -c constraints.txt {packages}\nmake infer eval\n" in contents("README.md")
    shutil.copytree("in", "other")
    assert pose(*given, "--inputs_flip", "other") == 2
    assert "other: " in capsys.readouterr().err
    Manifest.read("in/manifest.json").flip().write("other/manifest.json")
    assert pose(*given, "--inputs_flip", "other") == 0
    with tarfile.open("out/b.tar") as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    assert [name for name in names if name.startswith("prep/in-flip/")] == [
        f"prep/in-flip/{name}" for name in ("img0.npy", "img1.npy", "img2.npy", "manifest.json", "settings.json")
    ]
    assert capsys.readouterr().out.startswith("packed the model, 6 inputs and ")


def test_a_board_that_preprocesses_needs_more(place: Path) -> None:
    assert pose() == 0
    packages = "numpy Pillow PyYAML tqdm yacs onnxruntime opencv-python-headless simplejpeg"
    assert f"pip install -c constraints.txt {packages}\nmake preprocess infer eval DATASET=<directory>\n" in contents(
        "README.md"
    )


def test_inputs_that_a_board_would_reject_are_not_packed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.unlink("in/img1.bin")
    assert call() == 2
    err = capsys.readouterr().err
    assert err.startswith("make.bundle: error: in: ") and "img1.bin" in err and "rm in/manifest.json" in err
    prep_folder(Path("in"), 3)
    os.unlink("m.onnx.json")
    assert call() == 2
    assert capsys.readouterr().err.startswith("make.bundle: error: m.onnx.json: ")
    assert not Path("out").exists()


def test_a_setting_without_a_value_is_rejected(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        call("--set", "GATE")
    assert "expected NAME=value, found 'GATE'" in capsys.readouterr().err


def test_the_code_of_the_stages_after_om_is_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(bundle.__file__).parents[1])
    packed = set(bundle.code_files())
    tasks = [f"{stage}.{task}" for stage in ("preprocess", "postprocess") for task in ("classification", "pose")]
    runtimes = [f"infer.runtimes.{path.stem}" for path in Path("infer/runtimes").glob("*.py")]
    scripts = ["infer.run", "infer.emulator.__main__", "make.shards", "make.machine", "serve.run", "postprocess.gate"]
    needed = import_closure([*scripts, *runtimes, *tasks])
    assert set(needed) - packed == set(), "each part records the hash of the code; it must be the same on the board"
    assert Path("make/options.py") in packed and Path("make/resolve.mk") in packed
    networks = [path.name for path in packed if path.parts[:2] == ("hrnet", "nets")]
    assert sorted(networks) == ["__init__.py", "float32.py"]


def test_a_full_disk_is_reported_in_one_line(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 9))
    assert call() == 2
    assert "out: too little free disk space (expected " in (line := capsys.readouterr().err) and "found 0.0 kB" in line
    assert not Path("out").exists()


def test_the_help_of_a_board_lists_what_works_there() -> None:
    """The defaults are those in bundle.mk; no target or variable that only the host has."""
    sources = [ROOT / "Makefile", ROOT / "make/project.mk"]
    for preprocesses in (False, True):
        text = bundle_help.help_text(sources, {"PYTHON": "python3", "OM": "model/m.om"}, preprocesses, pose=True)
        assert max(map(len, text.splitlines())) <= 100, "not wider than make help on the host, if paths are short"
        blocks = [[line.split()[0] for line in block.splitlines()] for block in text.split("\n\n")[1:]]
        assert set(blocks[0]) == set(bundle_help.target_names(preprocesses))
        stage, inputs = {"DATASET", "LIMIT", "SHARDS"} <= set(blocks[1]), "PREP" in blocks[1]
        assert (stage, inputs) == (preprocesses, not preprocesses) and "FLIP" in blocks[1]
        assert not {"WEIGHTS", "ONNX", "BATCH", "SOC", "MODEL", "BASE", "PEERS"} & set(blocks[1])
        assert "\n  PYTHON        python3   " in text and "\n  OM            model/m.om  " in text
    long = {"OM": "model/bs16-float32-Ascend310P3-fp16.om", "PREP": "prep/imagenet-float32-first1000"}
    lines = bundle_help.help_text(sources, long, False, pose=False).split("\n\n")[2].splitlines()
    texts = {line.split()[0]: line for line in lines}
    column = texts["OM"].index("the compiled model")
    assert texts["PREP"].index("the inputs") == texts["DEVICE"].index("device id; for make serve") == column
    assert "\n  FLIP " not in bundle_help.help_text(sources, {}, True, pose=False)
