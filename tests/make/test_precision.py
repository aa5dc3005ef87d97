"""make.precision: its calls of make, and the table that it writes from the records of make eval."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hrnet.io.records import read_record, write_record
from make import precision
from tests.support.errors import check_error

METRICS = Path("build/net/eval/set-float32")
WORDS = ["--model", "net", "--build", "build", "--python", "py", "--metrics", str(METRICS), "--batch_size", "4"]
OUTPUT = Path("build/net/precision/set-float32.json")
RUN = [*WORDS, "--output", str(OUTPUT), "--set", "GATE=2"]
VARIED = ("PRECISION", "KEEP_FLOAT", "BACKEND")
CLASSES = {"fp32": [0, 1, 2, 3], "fp16": [0, 1, 2, 3], "int8-entropy": [3, 1, 2, 0], "int8": [0, 1, 2, 0]}


class Make:
    """A fake of make: writes the metrics and predictions of the requested evaluation."""

    def __init__(self, pose: bool = False, code: int = 0) -> None:
        self.calls: list[dict[str, str]] = []
        self.pose, self.code = pose, code

    def __call__(self, words: list[str], env: dict[str, str]) -> Any:
        assert words[:3] == ["make", "--no-print-directory", "once"]
        assert not {"PRECISION", "MAKEFLAGS"} & env.keys()
        product, given = Path(words[3]), dict(word.split("=", 1) for word in words[4:])
        self.calls.append(given)
        if not self.code:
            self.write(product, CLASSES.get(given["PRECISION"], CLASSES["fp32"]), given)
        return type("Done", (), {"returncode": self.code})

    def write(self, product: Path, classes: list[int], given: dict[str, str]) -> None:
        (product.with_suffix("")).mkdir(parents=True, exist_ok=True)
        top1 = 100 * sum(each == label for label, each in enumerate(classes)) / len(classes)
        content = {"metrics": {"AP" if self.pose else "top1": top1}, "images": 4, "model": {"keep_float": "1"}}
        rate = {"infer end to end": 50.0 if given["BACKEND"] == "openvino" else 20.0}
        write_record(product, "metrics", {**content, "images_per_second": rate})
        lines = [
            {"source": f"val/{at}.jpg", "image_id": at, "gear": [8, 8], "people": each, "score": 0.5}
            if self.pose
            else {
                "source": f"val/{at}.jpg",
                "label": at,
                "rank": 0,
                "classes": [each],
                "probabilities": [1.0],
                "size": [8, 8],
            }
            for at, each in enumerate(classes)
        ]
        predictions = product.with_suffix("") / "predictions.jsonl"
        predictions.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PRECISION", "fp16")
    monkeypatch.setattr(precision.importlib.util, "find_spec", lambda name: name)
    Path("build/net/keep_float").mkdir(parents=True)
    steps = [
        {"accepted": True, "divergence": 0.5},
        {"accepted": False, "divergence": 9.0},
        {"accepted": True, "divergence": 0.1},
    ]
    found = {"method": "entropy", "operators": ["Conv_0"], "candidates": 7, "steps": steps}
    write_record(Path("build/net/keep_float/int8.json"), "keep_float", found)
    return monkeypatch


def test_the_table(here: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fake = Make()
    here.setattr(precision.subprocess, "run", fake)
    assert precision.main(RUN) == 0
    found = [(call["PRECISION"], call["KEEP_FLOAT"], call["BACKEND"]) for call in fake.calls]
    assert found == [
        ("fp32", "", "onnxruntime"),
        ("fp32", "", "openvino"),
        ("fp16", "", "onnxruntime"),
        *(
            (name, "", backend)
            for name in ("int8-minmax", "int8-percentile", "int8-entropy")
            for backend in ("onnxruntime", "openvino")
        ),
        ("int8", "auto", "onnxruntime"),
        ("int8", "auto", "openvino"),
    ]
    (others,) = {tuple(sorted(call.items() - set(zip(VARIED, map(call.get, VARIED))))) for call in fake.calls}
    assert dict(others) == {
        "MODEL": "net",
        "BUILD": "build",
        "PYTHON": "py",
        "OM": "",
        "TUNE": "none",
        "DEVICE": "0",
        "GATE": "2",
    }
    lines = OUTPUT.with_suffix(".md").read_text().splitlines()
    assert "| fp32 | 100.00 | 0 | 20.0 | 100.00 | 0 | 50.0 |" in lines
    assert "| fp16 | 100.00 | 0 | 20.0 | - | - | - |" in lines
    assert "| int8, entropy (used by KEEP_FLOAT=auto) | 50.00 | 2 | 20.0 | 50.00 | 2 | 50.0 |" in lines
    assert "| int8, KEEP_FLOAT=auto (1 of 7 layers in float) | 75.00 | 1 | 20.0 | 75.00 | 1 | 50.0 |" in lines
    assert "changed classes: compared with the fp32 predictions of onnxruntime." in lines[0]
    assert "In float: `Conv_0`" in lines and "Conv_0" in capsys.readouterr().out
    record = read_record(OUTPUT, "precision")
    assert record["search"]["divergence"] == [0.5, 0.1] and record["machine"]["cores"] > 0
    assert record["rows"][-1]["backends"]["openvino"]["changed"] == 1


def test_without_openvino(here: pytest.MonkeyPatch) -> None:
    fake = Make()
    here.setattr(precision.subprocess, "run", fake)
    here.setattr(precision.importlib.util, "find_spec", lambda name: name if name == "onnxruntime" else None)
    assert precision.main(RUN) == 0
    assert {call["BACKEND"] for call in fake.calls} == {"onnxruntime"}
    assert "openvino" not in OUTPUT.with_suffix(".md").read_text()


def test_people_of_a_pose_model(here: pytest.MonkeyPatch) -> None:
    here.setattr(precision.subprocess, "run", Make(pose=True))
    assert precision.main([*RUN, "--ending=-noflip"]) == 0
    assert (METRICS / "onnxruntime-bs4-fp32-noflip.json").exists()
    text = OUTPUT.with_suffix(".md").read_text()
    assert "AP %, onnxruntime | images with another number of people" in text and "| int8, entropy (" in text


def test_a_row_that_fails(here: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    here.setattr(precision.subprocess, "run", Make(code=2))
    assert precision.main(RUN) == 2
    check_error(capsys.readouterr().err, "make.precision", "fp32 with onnxruntime", "exit 2", "same command again")
    assert not OUTPUT.exists()


def test_names_of_evaluations_are_those_of_make() -> None:
    rows = {row.name: row for row in precision.ROWS}
    assert precision.tag(rows["int8, KEEP_FLOAT=auto"], "openvino", 16) == "openvino-bs16-int8-keep-auto"
    assert precision.tag(rows["int8, min-max"], "onnxruntime", 1) == "onnxruntime-bs1-int8-minmax"
