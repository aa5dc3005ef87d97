"""postprocess/qps_table.py: the model zoo's table and lines from metrics records, and rows that do not match."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hrnet.io.records import write_record
from postprocess import qps_table

RATES = {1: 500.25, 8: 1305.0, 64: 1315.5}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("imagenet-float32").mkdir()
    for batch in RATES:
        write(batch)
    return tmp_path


def write(batch: int, **other: Any) -> Path:
    """A metrics record of one batch."""
    content = {
        "name": "hrnet_w18",
        "metrics": {"top1": 76.756, "top5": 93.446},
        "images": 50000,
        "batch": batch,
        "evaluated": {"manifest_sha256": "a" * 64, "model_sha256": f"{batch:064}"},
        "model": {"model": "hrnet_w18"},
        "tool": "torch_aie 6.3 on Ascend310P3",
        "images_per_second": {"infer end to end": 100.0, "device alone": RATES[batch]},
        **other,
    }
    path = Path(f"imagenet-float32/bs{batch}.json")
    write_record(path, "metrics", content)
    return path


def call(*more: str, batches: tuple[int, ...] = (64, 1, 8)) -> int:
    paths = [f"imagenet-float32/bs{batch}.json" for batch in batches]
    return qps_table.main(["--metrics", *paths, "--output", "out/qps.json", *more])


def test_the_table_and_the_lines_equal_the_model_zoos(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call() == 0
    accuracy = "imagenet-float32, 50000 images | top-1: 76.756% <br>top-5: 93.446%"
    page = (
        "| chip | batch | data set | accuracy | performance |\n"
        "| --- | --- | --- | --- | --- |\n"
        f"| Ascend310P3 | 1 | {accuracy} | 500.2 FPS |\n"
        f"| Ascend310P3 | 8 | {accuracy} | 1305.0 FPS |\n"
        f"| Ascend310P3 | 64 | {accuracy} | 1315.5 FPS |\n\n"
        "torch_aie 6.3 on Ascend310P3; the rates do not include reading and writing files.\n"
    )
    assert Path("out/qps.md").read_text() == page
    lines = "".join(f"top1 0.76756\ntop5 0.93446\nQPS is {rate}, bs is {batch}\n" for batch, rate in RATES.items())
    assert capsys.readouterr().out == f"{lines}\n{page}\nwrote out/qps.json and qps.md (3 batch sizes)\n"
    content = json.loads(Path("out/qps.json").read_text())
    assert (content["kind"], content["chip"], content["model"]) == ("qps", "Ascend310P3", {"model": "hrnet_w18"})
    assert sorted(content["machine"]) == ["cores", "kind", "processor"]
    assert content["rows"][1] == {
        "batch": 8,
        "images": 50000,
        "top1": 76.756,
        "top5": 93.446,
        "images_per_second": 1305.0,
        "files_to_files_images_per_second": 100.0,
        "manifest_sha256": "a" * 64,
        "model_sha256": f"{8:064}",
    }


def test_the_table_names_the_chip(place: Path) -> None:
    for batch in RATES:
        write(batch, tool="ais_bench", metrics={"top1": 50.0})
    assert call("--chip", "Ascend310") == 0
    assert (
        "| Ascend310 | 1 | imagenet-float32, 50000 images | top-1: 50.000% | 500.2 FPS |"
        in Path("out/qps.md").read_text()
    )
    assert call() == 0
    here = json.loads(Path("out/qps.json").read_text())
    assert here["chip"] == f"{here['machine']['processor']}, {here['machine']['cores']} cores"


OTHERS = {
    "manifest_sha256": {"evaluated": {"manifest_sha256": "b" * 64, "model_sha256": "c" * 64}},
    "model": {"model": {"model": "hrnet_w30"}},
    "tool": {"tool": "torchscript by torch 2.13.0"},
}


@pytest.mark.parametrize("key", OTHERS)
def test_rows_of_different_runs_are_rejected(place: Path, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(8, **OTHERS[key])
    assert call() == 2
    assert capsys.readouterr().err.startswith(f"postprocess.qps_table: error: imagenet-float32/bs8.json: {key} ")
    assert not Path("out").exists()


def test_invalid_rows_are_rejected(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(batches=(1, 1)) == 2
    assert "found [1, 1]" in capsys.readouterr().err
    write(8, images_per_second={"infer end to end": 1.0, "device alone": None})
    assert call() == 2
    assert "imagenet-float32/bs8.json: invalid images_per_second" in capsys.readouterr().err
    # a record without batch size and rates, such as that of PyTorch's accuracy
    write_record("imagenet-float32/bs8.json", "metrics", {"metrics": {"top1": 1.0}, "images": 3})
    assert call() == 2
    assert capsys.readouterr().err.startswith("postprocess.qps_table: error: imagenet-float32/bs8.json: ")
