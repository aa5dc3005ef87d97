"""make/family.py with fake stages that only write records: what is measured, kept, shown and rejected."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from hrnet import config
from hrnet.cli import UserError
from hrnet.io.family import Published
from hrnet.io.files import make_folder
from hrnet.io.records import read_record, write_record
from hrnet.io.runs import BenchRecord, BenchRow
from make import family
from make.charts import Series

SETTINGS = {"BACKEND": "onnxruntime", "AIS_PYTHON": "python3", "DEVICE": "0", "SOC": "Ascend310P3", "PYTHON": "py"}
SETTINGS.update(PRECISION="fp32", LOOP="20", BATCHES="1,4", ATC_FLAGS="")
CONFIGS = config.CONFIGS.resolve()  # before a test changes the directory
MODELS = ["hrnet_w18", "se_hrnet_w64_ssld"]
OUTPUT = Path("build/family/x/family.json")


class Calls:
    """Fakes of the processes: they write the records that make family reads. `log`: the calls; `fail`: the model whose
    call of make fails."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.fail = ""
        self.make: list[str] = []

    def __call__(self, _: family.Family, model: str, lock: int, *words: Any) -> None:
        folder, named = OUTPUT.parent / "work" / model, [str(word) for word in words]
        assert lock > 2 and folder.is_dir()
        if "pth2onnx.cost" in named:
            write_record(folder / "cost.json", "cost", {"gmacs": 4.2835, "params_m": 21.3, "size": [224, 224]})
        elif "benchmarks.seeded_checkpoint" in named:
            self.log.append(f"seeded {model}")
            (folder / "seeded.pth").touch()
        else:
            self.log.append(model)
            self.make = named
            if self.fail == model:
                raise UserError(f"{model}: make failed, see above", found="exit 2", hint=family.HINT)
            (folder / "om").mkdir(exist_ok=True)
            (folder / "om/bs1.onnx").touch()
            write_bench(folder / "bench/x.json", named)
            if any(word.endswith("eval/set/tag.json") for word in named):
                make_folder(folder / "eval/set")
                metrics = {"metrics": {"top1": 70.5, "top5": 90.25}, "images": 200}
                write_record(folder / "eval/set/tag.json", "metrics", metrics)


def write_bench(path: Path, words: list[str]) -> None:
    make_folder(path.parent)
    (batches,) = (word.partition("=")[2].split(",") for word in words if word.startswith("BATCHES="))
    rows = [
        BenchRow(
            *(int(batch), f"bs{batch}.onnx", "sha", 20.0, 50.0, None),
            *({"median": 40.0 * int(batch), "percentile(99%)": 50.0, "mean": 41.0, "count": 20}, 20, 1.0, 20.0),
        )
        for batch in batches
    ]
    BenchRecord({}, "onnxruntime 1", ["0"], None, 20, False, {}, {}, rows).write(path)


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Calls:
    """A directory with a checkpoint of the first model and a data set of two images; charts are not drawn."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, "CONFIGS", CONFIGS)
    made = Calls()
    monkeypatch.setattr(family.Family, "call", lambda *arguments: made(*arguments))
    monkeypatch.setattr(family, "check_installed", lambda: None)
    monkeypatch.setattr(family, "draw", lambda *_, **__: None)
    Path("weights").mkdir()
    Path("weights/hrnet_w18.pth").write_bytes(b"weights")
    Path("set/val").mkdir(parents=True)
    for name in ("a.JPEG", "b.JPEG"):
        Path("set/val", name).write_bytes(b"image")
    Path("set/val_label.txt").write_text("a.JPEG 1\nb.JPEG 2\n")
    return made


def measure(*more: str, models: list[str] = MODELS, **changed: str) -> int:
    given = {**SETTINGS, **changed}
    words = ["--models", *models, "--output", str(OUTPUT), "--bench", "bench/x.json", *more]
    return family.main([*words, *(word for item in given.items() for word in ("--set", "=".join(item)))])


def test_table_and_record(calls: Calls) -> None:
    assert measure() == 0
    assert calls.log == ["hrnet_w18", "seeded se_hrnet_w64_ssld", "se_hrnet_w64_ssld"]
    record = read_record(OUTPUT, "family")
    first, second = record["rows"]
    assert (first["top1"], first["top5"], second["top1"]) == (76.8, 93.4, 84.7)
    assert first["reference"] and first["weights_sha256"] and second["weights_sha256"] is None
    assert first["batch_ms"] == {"1": 40.0, "4": 160.0} and first["gmacs"] == 4.2835
    assert second["published"]["t4_fp32_ms"] == [31.6977, 94.99546, 174.45766]
    lines = OUTPUT.with_suffix(".md").read_text().splitlines()
    (own, published), (gated, others) = ([line for line in lines if line.startswith(f"| {model} ")] for model in MODELS)
    assert own == "| hrnet_w18 | 76.80* | 93.40* | 4.284 | 21.30 | 40.00 | 160.00 |"
    assert gated.startswith("| se_hrnet_w64_ssld † | 84.70* |")
    assert published == "| hrnet_w18 | 76.9 | 6.66 | 8.94 | 11.95 | 7.41 | 13.30 | 23.33 | 6.79 | 11.51 | 17.67 |"
    assert others.startswith("| se_hrnet_w64_ssld | 84.7 |  |  |  | 31.70 |")
    assert not (OUTPUT.parent / "work").exists(), "compiled files are removed"


def test_make_is_called_with_the_settings(calls: Calls) -> None:
    assert measure(models=["hrnet_w18"]) == 0
    work = OUTPUT.parent / "work"
    expected = {"MODEL=hrnet_w18", f"BUILD={work}", "WEIGHTS=weights/hrnet_w18.pth", "PRECISION=fp32", "PYTHON=py"}
    assert calls.make[0] == "make" and f"{work}/hrnet_w18/bench/x.json" in calls.make
    assert expected <= set(calls.make)


def test_finished_rows_are_kept(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    assert measure() == 0
    calls.log.clear()
    assert measure() == 0 and calls.log == []
    assert "2 of 2 rows were finished before" in capsys.readouterr().out
    assert measure(models=[*MODELS, "hrnet_w30"]) == 0
    assert calls.log == ["seeded hrnet_w30", "hrnet_w30"]
    calls.log.clear()
    Path("weights/hrnet_w18.pth").write_bytes(b"others")
    assert measure() == 0 and calls.log == ["hrnet_w18"]
    calls.log.clear()
    Path("weights/se_hrnet_w64_ssld.pth").write_bytes(b"downloaded")
    assert measure() == 0 and calls.log == ["se_hrnet_w64_ssld"]
    calls.log.clear()
    assert measure(BATCHES="1,8") == 0 and calls.log == MODELS


@pytest.mark.parametrize("damage", ["{", '{"kind": "family_row", "format_version": 1}'])
def test_a_damaged_row_is_measured_again(calls: Calls, damage: str) -> None:
    assert measure() == 0
    calls.log.clear()
    (OUTPUT.parent / "rows/hrnet_w18.json").write_text(damage)
    assert measure() == 0 and calls.log == ["hrnet_w18"]


def test_a_failed_row_keeps_the_others(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    calls.fail = MODELS[1]
    assert measure() == 2
    assert MODELS[1] in capsys.readouterr().err and not OUTPUT.exists()
    calls.fail = ""
    calls.log.clear()
    assert measure() == 0
    assert calls.log == [MODELS[1]], "the first row and the seeded weights exist"


def test_accuracy_is_measured_where_there_are_weights(calls: Calls) -> None:
    given = {"DATASET": "set", "LIMIT": "0"}
    assert measure("--metrics", "eval/set/tag.json", **given) == 0
    first, second = read_record(OUTPUT, "family")["rows"]
    assert (first["top1"], first["top5"], first["images"], first["reference"]) == (70.5, 90.25, 200, None)
    assert (second["top1"], second["images"]) == (84.7, 0) and second["reference"]
    text = OUTPUT.with_suffix(".md").read_text()
    assert "| hrnet_w18 | 70.50 | 90.25 |" in text and "Other accuracies were measured on 200 images." in text
    calls.log.clear()
    Path("set/val/a.JPEG").write_bytes(b"another image")
    assert measure("--metrics", "eval/set/tag.json", **given) == 0
    assert calls.log == ["hrnet_w18"], "the seeded row does not depend on images"


def test_the_notes_name_no_other_accuracies_if_all_are_measured(calls: Calls) -> None:
    given = {"DATASET": "set", "LIMIT": "0"}
    assert measure("--metrics", "eval/set/tag.json", models=["hrnet_w18"], **given) == 0
    text = OUTPUT.with_suffix(".md").read_text()
    assert "\nAccuracies were measured on 200 images." in text and "*" not in text.partition("\nMilliseconds")[0]


def test_an_invalid_data_set_is_rejected_before_the_first_row(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    Path("set/val_label.txt").write_text("a.JPEG 1000\n")
    assert measure("--metrics", "eval/set/tag.json", DATASET="set") == 2
    assert "1000" in capsys.readouterr().err and calls.log == []


def test_series_of_the_charts(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, list[Series]] = {}
    monkeypatch.setattr(family, "draw", lambda path, _, __, series, **___: drawn.update({path.name: series}))
    assert measure("--metrics", "eval/set/tag.json", DATASET="set") == 0
    assert list(drawn) == ["gmacs", "params", "latency", "published"]
    assert [(each.name, len(each.points)) for each in drawn["latency"]] == [("batch 1", 2), ("batch 4", 2)]
    here, *published = drawn["published"]
    assert [(point.label, point.x, point.y, point.filled) for point in here.points] == [
        ("W18", 160.0, 70.5, True),
        ("SE W64 ssld", 160.0, 84.7, False),
    ]
    assert [[point.x for point in each.points] for each in published] == [
        [8.94],
        [13.29752, 94.99546],
        [11.50986, 69.31189],
    ]
    assert measure(BATCHES="2") == 0
    assert len(drawn["published"]) == 1, "nothing is published for batch 2"


def test_published_figures() -> None:
    tables, models = Published.read(family.PUBLISHED)
    assert set(models) <= {path.stem for path in CONFIGS.glob("*.yaml")}
    assert tables.batches == [1, 4, 8] and len(models) == 10
    assert models["hrnet_w48"].t4_fp16_ms == [12.65015, 23.12886, 33.37859]
    assert models["hrnet_w64"].v100_fp32_ms == [13.82, 21.15, 35.51]
    assert (models["hrnet_w18"].top1, models["hrnet_w18"].flops_g) == (76.9, 4.14)
    assert models["se_hrnet_w64_ssld"].v100_fp32_ms is None


def test_damaged_figures(tmp_path: Path) -> None:
    content = json.loads(family.PUBLISHED.read_text())
    content["models"]["hrnet_w30"]["t4_fp32_ms"].pop()
    (tmp_path / "p.json").write_text(json.dumps(content))
    with pytest.raises(UserError) as caught:
        Published.read(tmp_path / "p.json")
    assert "hrnet_w30" in str(caught.value) and caught.value.expected == 3


def test_processes_do_not_see_the_values_of_the_make_around_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "WEIGHTS", "MODEL", "MODELS", "KEPT"):
        monkeypatch.setenv(name, "x")
    args = family.parse_args(["--models", "m", "--output", "o", "--bench", "b", "--set", "BACKEND=onnxruntime"])
    args.settings += [("AIS_PYTHON", "python3"), ("DEVICE", "0")]
    made = family.Family(args)
    show = "import os; print(sorted(n for n in os.environ if os.environ[n] == 'x'))"
    with open(tmp_path / "lock", "w") as lock:
        made.call("m", lock.fileno(), sys.executable, "-c", show)
        assert capfd.readouterr().out == "['KEPT']\n"
        with pytest.raises(UserError) as caught:
            made.call("m", lock.fileno(), sys.executable, "-c", "raise SystemExit(3)")
    assert caught.value.found == "exit 3" and str(caught.value).startswith("m: ")


@pytest.mark.parametrize("value", ["BATCHES", "X=1", "=1"])
def test_wrong_settings(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        family.parse_args(["--models", "m", "--output", "o", "--bench", "b", "--set", value])
    assert caught.value.code == 2 and value in capsys.readouterr().err
