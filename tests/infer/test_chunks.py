"""infer/chunks.py: chunks are decoded to what all at once are; finished ones are kept; disk is given back."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from hrnet.io.manifest import Manifest
from infer.chunks import main
from tests import fakes
from tests.infer.models import gear_folder, gear_model

IMAGES = 5
# A command that decodes: of each image the sums of its outputs, in the order of the manifest. It logs its calls, and
# fails at the chunk whose number is in `broken`.
DECODE = """
import argparse, dataclasses, json, os, sys
from pathlib import Path
import numpy as np
from hrnet.io.files import sha256_file
from hrnet.io.manifest import Manifest
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
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(fakes.ROOT))
    gear_folder(Path("in"), IMAGES)
    gear_model(Path("m.onnx"))
    Path("decode.py").write_text(DECODE)
    return tmp_path


def call(chunk: int, *more: str, model: str = "m.onnx") -> int:
    named = ["--model", model, "--input", "in", "--output", "out", "--output_dirname", "run", "--parts", "parts"]
    return main([*named, "--chunk", str(chunk), *more, "--", sys.executable, "decode.py"])


def calls() -> list[str]:
    """Number of each chunk decoded since the last look, and how many files of outputs it had."""
    log = Path("calls")
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return lines


def people() -> list[object]:
    parts = sorted(path for path in Path("parts").glob("*.json") if not path.name.endswith(".decode.json"))
    return [person for path in parts for person in json.loads(path.read_text())]


def test_chunks_are_the_undivided_result(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert call(IMAGES, "--flip") == 0
    assert calls() == [f"0 {2 * IMAGES}"]
    undivided = people()
    assert [person["image_id"] for person in undivided] == [  # type: ignore[index]
        image.image_id for image in Manifest.read("in/manifest.json").images
    ]
    capfd.readouterr()
    assert call(2, "--flip") == 0
    assert calls() == ["0 4", "1 4", "2 2"], "another K redoes all"
    assert people() == undivided
    told = capfd.readouterr().out
    assert told.endswith("inferred and decoded 5 images in 3 chunks into parts\n")
    assert f"{sys.executable} decode.py --manifest=out/run-part_inputs/manifest.json --dump_dir=out/run-part" in told
    assert call(4, "--flip") == 0
    assert calls() == ["0 8", "1 2"]
    assert sorted(path.name for path in Path("parts").iterdir()) == [
        *("0.decode.json", "0.json", "1.decode.json", "1.json")
    ], "the third chunk of K=2 is gone"
    assert people() == undivided


def test_flip_infers_the_mirror_images(place: Path) -> None:
    assert call(3, "--flip") == 0
    inputs = [np.load(f"in/img{i}.npy") for i in range(IMAGES)]
    for person, image in zip(people(), inputs):
        mean, twice, mirrored_mean, mirrored_twice = person["keypoints"][:4]  # type: ignore[index]
        assert mean == pytest.approx(mirrored_mean, abs=1e-6)
        assert (twice, mirrored_twice) == (2 * image[0, 0, 0, 0], 2 * image[0, 0, 0, -1])


@pytest.mark.slow
def test_outputs_and_inputs_of_chunks_are_deleted(place: Path) -> None:
    assert call(2, "--flip") == 0
    left = [
        path for folder in ("out", "out-flip") for path in Path(folder).rglob("*") if not path.name.endswith("_lock")
    ]
    assert left == []
    assert len(list(Path("in").glob("*.npy"))) == IMAGES, "hard links went, the inputs stay"


def test_a_rerun_keeps_finished_chunks(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("broken").write_text("1")
    assert call(2) == 1
    told = capfd.readouterr().err
    line = f"{sys.executable} decode.py exited with 3, see above; finished chunks are kept for a rerun"
    assert told.endswith(f"infer.chunks: failed: {line}\n")
    assert calls() == ["0 4", "1 4"]
    Path("broken").unlink()
    assert call(2) == 0
    assert calls() == ["1 4", "2 2"], "chunk 0 is not inferred again"
    assert capfd.readouterr().out.endswith(
        "inferred and decoded 5 images in 3 chunks into parts, 1 were finished before\n"
    )
    assert call(2) == 0
    assert calls() == []


@pytest.mark.slow
def test_what_was_made_otherwise_is_done_anew(place: Path) -> None:
    assert call(3) == 0
    assert calls() == ["0 6", "1 4"]
    assert call(3, "--flip") == 0
    assert calls() == ["0 6", "1 4"], "with the flip test"
    Path("parts/1.json").write_text("[]")
    assert call(3, "--flip") == 0
    assert calls() == ["1 4"], "its record speaks of other keypoints"
    gear_folder(Path("in"), IMAGES - 1)
    assert call(3, "--flip") == 0
    assert calls() == ["1 2"], "one image less; the first chunk is the same"


def test_results_of_other_code_are_not_kept(place: Path) -> None:
    for text, done in (("first\n", ["0 10"]), ("second\n", ["0 10"]), ("second\n", [])):
        Path("code.py").write_text(text)
        assert call(IMAGES, "--code", "code.py", "decode.py") == 0
        assert calls() == done


def test_a_failed_inference_is_told(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("in/img3.npy").unlink()
    assert call(2) == 2
    assert "img3.npy" in capfd.readouterr().err


def test_a_folder_of_mirrored_inputs_must_be_one(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    gear_folder(Path("in-flip"), IMAGES)
    assert call(2, "--input_flip", "in-flip") == 2
    line = "infer.chunks: error: in-flip: is no mirror of --input; run make preprocess\n"
    assert capfd.readouterr().err == line


@pytest.mark.slow
def test_ais_bench_takes_the_folder_of_mirrored_inputs(place: Path) -> None:
    """On its double: the same results as the twin's, which mirrors in memory."""
    assert call(2, "--flip") == 0
    expected = people()
    gear_model(Path("m.om"))
    for i in range(IMAGES):
        Path("in-flip").mkdir(exist_ok=True)
        np.save(f"in-flip/img{i}.npy", np.ascontiguousarray(np.load(f"in/img{i}.npy")[..., ::-1]))
    Manifest.read("in/manifest.json").mirrored().write("in-flip/manifest.json")
    calls()
    ais = ["--backend", "ascend", "--ais_python", str(fakes.ais_python(place))]
    assert call(2, "--input_flip", "in-flip", *ais, model="m.om") == 0
    assert calls() == ["0 4", "1 4", "2 2"]
    for one, other in zip(people(), expected):
        np.testing.assert_allclose(one["keypoints"], other["keypoints"], atol=1e-6)  # type: ignore[index]


@pytest.mark.parametrize("words", [[], ["--"]])
def test_a_command_is_needed(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    named = [
        "--model",
        "m",
        "--input",
        "in",
        "--output",
        "out",
        "--output_dirname",
        "r",
        "--parts",
        "p",
        "--chunk",
        "1",
    ]
    with pytest.raises(SystemExit) as stop:
        main([*named, *words])
    assert stop.value.code == 2
    assert "expected -- and the command that decodes a chunk" in capsys.readouterr().err
