"""infer/chunks.py: the results do not depend on the chunks; finished ones are kept; outputs are removed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from hrnet.io.manifest import Manifest
from infer import chunks
from tests import fakes
from tests.infer.models import check_error, gear_folder, gear_model

IMAGES = 5
FLIP = ("--output_flip", "out-flip/run")
# A command that decodes: the first value of each output, in the order of the manifest. It logs its calls, and fails at
# the chunk whose number is in the file `broken`.
DECODE = """
import argparse, dataclasses, json, os, sys
from pathlib import Path
import numpy as np
from hrnet.io.coco import write_keypoints
from hrnet.io.files import sha256_file
from hrnet.io.manifest import Manifest
from hrnet.io.runs import DecodeRecord, RunRecord
parser = argparse.ArgumentParser()
for name in ("manifest", "dump_dir", "dump_dir_flip", "output"):
    parser.add_argument(f"--{name}", type=Path)
args = parser.parse_args()
with open("calls", "a") as log:
    log.write(f"{args.output.stem} {len(os.listdir(args.dump_dir))}\\n")
if os.path.exists("broken") and args.output.stem == open("broken").read():
    sys.exit(3)
manifest = Manifest.read(args.manifest)
folders = [folder for folder in (args.dump_dir, args.dump_dir_flip) if folder]
people = []
for image in manifest.images:
    outputs = [np.load(folder / f"{image.stem}_{k}.npy") for folder in folders for k in range(2)]
    corner = [float(output.reshape(-1)[0]) for output in outputs]
    people.append({"image_id": image.image_id, "category_id": 1, "keypoints": (corner + 51 * [0.0])[:51], "score": 1.0})
write_keypoints(args.output, people)
runs = [RunRecord.read(folder.with_name(folder.name + "_run.json")) for folder in folders]
assert [run.flipped for run in runs] == [False, True][: len(runs)]
DecodeRecord(
    sha256_file(args.manifest), runs[0].model_sha256, sha256_file(args.output), {}, runs[0].tool, len(runs) > 1,
    len(people), len(people), len(people), {"infer": 1.0},
).write(args.output)
"""


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(fakes.ROOT))
    gear_folder(Path("in"), IMAGES)
    gear_model(Path("m.onnx"))
    Path("decode.py").write_text(DECODE)
    return tmp_path


def call(chunk: int, *more: str, model: str = "m.onnx") -> int:
    named = ["--model", model, "--inputs", "in", "--output", "out/run", "--parts", "parts"]
    return chunks.main([*named, "--chunk", str(chunk), *more, "--", sys.executable, "decode.py"])


def calls() -> list[str]:
    """Number of each chunk decoded since the last look, and how many files of outputs it had."""
    log = Path("calls")
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return lines


def people() -> list[object]:
    parts = sorted(path for path in Path("parts").glob("*.json") if not path.name.endswith(".decode.json"))
    return [person for path in parts for person in json.loads(path.read_text())]


def test_chunks_are_the_undivided_result(workdir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert call(IMAGES, *FLIP) == 0
    assert calls() == [f"0 {2 * IMAGES}"]
    undivided = people()
    assert [person["image_id"] for person in undivided] == [  # type: ignore[index]
        image.image_id for image in Manifest.read("in/manifest.json").images
    ]
    capfd.readouterr()
    assert call(2, *FLIP) == 0
    assert calls() == ["0 4", "1 4", "2 2"], "another chunk size does all again"
    assert people() == undivided
    out = capfd.readouterr().out
    assert out.endswith("inferred and decoded 5 images in 3 chunks into parts\n")
    assert f"{sys.executable} decode.py --manifest=out/run-part_inputs/manifest.json --dump_dir=out/run-part" in out
    assert out.count(" -m infer.emulator ") == 3, "both passes of a chunk in one process"
    assert call(4, *FLIP) == 0
    assert calls() == ["0 8", "1 2"]
    assert sorted(path.name for path in Path("parts").iterdir()) == [
        *("0.decode.json", "0.json", "1.decode.json", "1.json")
    ], "the third chunk is gone"
    assert people() == undivided


def test_flip_infers_the_flipped_images(workdir: Path) -> None:
    assert call(3, *FLIP) == 0
    inputs = [np.load(f"in/img{i}.npy") for i in range(IMAGES)]
    for person, image in zip(people(), inputs):
        mean, twice, flipped_mean, flipped_twice = person["keypoints"][:4]  # type: ignore[index]
        assert mean == pytest.approx(flipped_mean, abs=1e-6)
        assert (twice, flipped_twice) == (2 * image[0, 0, 0, 0], 2 * image[0, 0, 0, -1])


@pytest.mark.slow
def test_outputs_and_inputs_of_chunks_are_deleted(workdir: Path) -> None:
    assert call(2, *FLIP) == 0
    left = [
        path for folder in ("out", "out-flip") for path in Path(folder).rglob("*") if not path.name.endswith("_lock")
    ]
    assert left == []
    assert len(list(Path("in").glob("*.npy"))) == IMAGES


def test_a_rerun_keeps_finished_chunks(workdir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("broken").write_text("1")
    assert call(2) == 1
    check_error(capfd.readouterr().err, "infer.chunks", f"{sys.executable} decode.py", "exit 3", "kept for a rerun")
    assert calls() == ["0 4", "1 4"]
    Path("broken").unlink()
    assert call(2) == 0
    assert calls() == ["1 4", "2 2"], "chunk 0 is kept"
    assert capfd.readouterr().out.endswith(
        "inferred and decoded 5 images in 3 chunks into parts, 1 were finished before\n"
    )
    assert call(2) == 0
    assert calls() == []


@pytest.mark.slow
def test_results_of_other_settings_or_inputs_are_not_kept(workdir: Path) -> None:
    assert call(3) == 0
    assert calls() == ["0 6", "1 4"]
    assert call(3, *FLIP) == 0
    assert calls() == ["0 6", "1 4"], "with the flip test"
    Path("parts/1.json").write_text("[]")
    assert call(3, *FLIP) == 0
    assert calls() == ["1 4"], "its record has another hash"
    gear_folder(Path("in"), IMAGES - 1)
    assert call(3, *FLIP) == 0
    assert calls() == ["1 2"], "one image fewer; the first chunk is the same"


def test_results_of_other_code_are_not_kept(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for digit, done in (("1", ["0 10"]), ("2", ["0 10"]), ("2", [])):
        monkeypatch.setattr(chunks, "code_sha256", lambda *modules: 64 * digit)  # noqa: B023
        assert call(IMAGES) == 0
        assert calls() == done


def test_config_and_module_of_the_command_are_in_the_settings(workdir: Path) -> None:
    Path("mine.yaml").touch()
    words = ["python", "-m", "postprocess.decode", "--cfg", "mine.yaml"]
    chunks.start_parts(Path("parts"), words, ["infer.emulator.main"])
    settings = json.loads(Path("parts_settings.json").read_text())["settings"]
    assert list(settings["files"]) == ["mine.yaml"]
    assert settings["code_sha256"] == chunks.code_sha256("infer.run", "infer.emulator.main", "postprocess.decode")


def test_failed_inference(workdir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("in/img3.npy").unlink()
    assert call(2) == 2
    check_error(capfd.readouterr().err, "infer.chunks", "img3.npy")


def test_flipped_inputs_must_be_those_of_inputs(workdir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    gear_folder(Path("in-flip"), IMAGES)
    assert call(2, *FLIP, "--inputs_flip", "in-flip") == 2
    check_error(capfd.readouterr().err, "infer.chunks", "in-flip", "run make preprocess")


@pytest.mark.slow
def test_ais_bench_infers_flipped_inputs(workdir: Path) -> None:
    """With the fake: the same results as the emulator, which flips in memory."""
    assert call(2, *FLIP) == 0
    expected = people()
    gear_model(Path("m.om"))
    for i in range(IMAGES):
        Path("in-flip").mkdir(exist_ok=True)
        np.save(f"in-flip/img{i}.npy", np.ascontiguousarray(np.load(f"in/img{i}.npy")[..., ::-1]))
    Manifest.read("in/manifest.json").flip().write("in-flip/manifest.json")
    calls()
    ais = ["--backend", "ascend", "--ais_python", str(fakes.ais_python(workdir))]
    assert call(2, *FLIP, "--inputs_flip", "in-flip", *ais, model="m.om") == 0
    assert calls() == ["0 4", "1 4", "2 2"]
    for one, other in zip(people(), expected):
        np.testing.assert_allclose(one["keypoints"], other["keypoints"], atol=1e-6)  # type: ignore[index]


@pytest.mark.parametrize("words", [[], ["--"]])
def test_missing_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    named = ["--model=m", "--inputs=in", "--output=out/r", "--parts=p", "--chunk=1"]
    with pytest.raises(SystemExit) as stop:
        chunks.main([*named, *words])
    assert stop.value.code == 2
    assert "expected -- and the command that decodes a chunk" in capsys.readouterr().err
