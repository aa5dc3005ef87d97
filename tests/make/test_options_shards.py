"""SHARDS, SHARD and KEEP in make/options.py: chosen, rejected and remembered values."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from make import changed, images
from make.call import OptionError
from tests.make.option_calls import add_atc, rejected, resolve

pytestmark = pytest.mark.usefixtures("checkout")

LIMIT = images.MAX_IMAGES


def listed(count: int, folder: str = "set") -> str:
    """A data set with a list of `count` images."""
    Path(folder, "val").mkdir(parents=True)
    Path(folder, "val_label.txt").write_bytes(b"a 0\n" * count)
    return folder


def shards(goals: str = "eval", **given: str) -> tuple[str, str]:
    found = resolve(goals, dry_run=True, **given)
    return found["SHARDS"], found["SHARDED"]


@pytest.mark.parametrize(
    ("count", "limit", "expected"),
    [
        (0, "0", "1"),
        (60, "0", "1"),
        (99_996, "0", "1"),
        (99_997, "0", "5"),
        (100_001, "0", "6"),
        (100_001, "99996", "1"),
        (200_000, "99997", "5"),
        (120_000, "500000", "6"),
    ],
)
def test_many_images_are_computed_in_parts(count: int, limit: str, expected: str) -> None:
    assert LIMIT == 99_996
    assert shards(DATASET=listed(count), LIMIT=limit) == (expected, "1" if expected != "1" else "")


def test_the_choice_is_reported_and_not_remembered(capsys: pytest.CaptureFixture[str]) -> None:
    found = resolve(DATASET=listed(LIMIT + 1))
    assert found["SHARDS"] == "5" and "build/net/settings/SHARDS.mk" not in found["STALE"]
    err = capsys.readouterr().err
    assert "SHARDS=5" in err and str(LIMIT) in err
    assert not Path("build/net/settings/SHARDS.mk").exists()


def test_only_targets_that_evaluate_choose_the_number_of_parts() -> None:
    dataset = listed(LIMIT + 1)
    for goals in ("onnx", "om", "preprocess", "infer", "bench"):
        assert shards(goals, DATASET=dataset) == ("1", ""), goals
    for goals in ("gate", "show", "om eval"):
        assert shards(goals, DATASET=dataset) == ("5", "1"), goals


@pytest.mark.parametrize(("device", "expected"), [("0", "1"), ("3", "1"), ("0,1", "2"), ("0,1,2,3,4,5,6", "7")])
def test_each_device_computes_a_part(device: str, expected: str) -> None:
    add_atc(Path())
    assert shards(DATASET=listed(60), DEVICE=device)[0] == expected
    assert shards(DATASET=listed(LIMIT + 1, "more"), DEVICE=device)[0] == str(max(5, int(expected)))


def test_a_given_number_of_parts_has_priority() -> None:
    add_atc(Path())
    dataset = listed(LIMIT + 1)
    assert shards(DATASET=dataset, SHARDS="9") == ("9", "1")
    assert shards(DATASET=dataset, SHARDS="1") == ("1", "")
    assert shards(DEVICE="0,1", SHARDS="2") == ("2", "1")


def test_one_part_can_be_computed() -> None:
    add_atc(Path())
    found = resolve("part", SHARD="3/16", KEEP="1", GATE="2", DEVICE="0,1")
    assert (found["SHARDS"], found["SHARDED"], found["STALE"]) == ("16", "1", "")
    assert not Path("build").exists(), "no settings"
    assert shards("part", SHARD="3/16", SHARDS="16") == ("16", "1")
    assert shards("part", SHARD="1/1") == ("1", "1")
    assert shards("merge", SHARDS="1") == ("1", "1")


def test_the_number_of_parts_is_remembered() -> None:
    assert resolve(SHARDS="3", KEEP="1")["STALE"] == "build/net/settings/SHARDS.mk"
    assert [path.name for path in Path("build/net/settings").iterdir()] == ["SHARDS.mk"]
    assert shards() == shards("merge") == ("3", "1")
    assert shards("part", SHARD="2/5") == ("5", "1"), "another number of parts for this call"
    assert Path("build/net/settings/SHARDS.mk").read_text() == "SHARDS ?= 3\n"


@pytest.mark.parametrize(
    ("goals", "given", "parts"),
    [
        ("part", {}, ("make part", "SHARD=3/16")),
        ("merge", {}, ("make merge", "SHARDS=")),
        ("cluster", {}, ("make cluster", "SHARDS=")),
        ("part", {"SHARD": "17/16"}, ("SHARD=17/16", "1/16", "16/16")),
        ("part", {"SHARD": "3/16", "SHARDS": "8"}, ("SHARD=3/16", "SHARDS=8")),
        *((goal, {"SHARDS": "2"}, (f"make {goal} ", "SHARDS=2", "SHARDS=1")) for goal in ("preprocess", "infer")),
        *((goal, {"SHARDS": "2"}, (f"make {goal} ", "SHARDS=2", "SHARDS=1")) for goal in ("reference", "qps")),
        ("compare", {"SHARDS": "2"}, ("make compare", "SHARDS=2", "SHARDS=1 LIMIT=")),
        ("eval", {"SHARDS": "2", "PREP": "prep"}, ("PREP=prep", "SHARDS=1")),
        ("infer", {"DEVICE": "0,1"}, ("DEVICE=0,1", "use make eval", "or DEVICE=0")),
        ("eval", {"DEVICE": "0,1", "SHARDS": "1"}, ("DEVICE=0,1", "give SHARDS=2 or more")),
        ("eval", {"CHUNK": "5"}, ("CHUNK=5", "SHARDS=<number of parts>")),
        ("eval", {"CHUNK": "many"}, ("CHUNK=many", "SHARDS=")),
    ],
)
def test_invalid_shards_are_rejected(goals: str, given: dict[str, str], parts: tuple[str, ...]) -> None:
    Path("prep").mkdir()
    Path("prep/manifest.json").touch()
    line = rejected(goals, **given)
    assert all(part in line for part in parts), line


@pytest.mark.parametrize(("chunk", "expected"), [("20", "SHARDS=3"), ("7", "SHARDS=9"), ("100", "SHARDS=1")])
def test_the_error_for_the_old_variable_chunk_names_shards(chunk: str, expected: str) -> None:
    line = rejected(DATASET=listed(60), CHUNK=chunk)
    assert f"CHUNK={chunk}" in line and expected in line and "remembered" not in line


def test_the_error_for_a_remembered_chunk_names_its_file() -> None:
    settings = Path("build/net/settings")
    settings.mkdir(parents=True)
    (settings / "CHUNK.mk").write_text("CHUNK ?= 20\n")
    with pytest.raises(OptionError) as caught:
        resolve()
    assert f"rm {settings}/CHUNK.mk" in str(caught.value) and "SHARDS" in str(caught.value)
    (settings / "CHUNK.mk").write_text("CHUNK ?= 0\n")
    assert resolve()["SHARDED"] == "" and resolve(CHUNK="0")["SHARDED"] == ""


@pytest.mark.parametrize(
    ("names", "given", "expected"),
    [
        (["set/1.tar"], {}, "1"),
        (["set/1.tar", "set/2.tar", "set/3.tar"], {}, "3"),
        (["set/val/1.tar", "set/val/2.tar"], {}, "2"),
        (["set/1.tar", "set/2.tar"], {"LIMIT": "7"}, "1"),
        (["set/1.tar", "set/2.tar"], {"LIMIT": "200000"}, "2"),
        (["set/1.tar", "set/2.tar"], {"SHARDS": "1"}, "1"),
        (["set/1.tar", "set/2.tar"], {"DEVICE": "0,1,2"}, "3"),
        (["set/1.tar", "set/2.tar", "set/val/a/1.jpg"], {}, "1"),
        ([f"set/{number}.tar" for number in range(64)], {}, "64"),
        ([f"set/{number}.tar" for number in range(65)], {}, "64"),
    ],
)
def test_each_tar_file_is_a_part(checkout: Path, names: list[str], given: dict[str, str], expected: str) -> None:
    add_atc(checkout)
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(name.encode())
    assert shards(DATASET="set", BACKEND="ascend", **given)[0] == expected


def test_tar_files_of_a_list_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("1.tar", "2.tar", "3.tar"):
        Path(name).write_bytes(b"x")
    Path("list.txt").write_text("1.tar\n3.tar\n")
    assert shards(DATASET="list.txt") == ("2", "1")
    assert "SHARDS=2" in (err := capsys.readouterr().err) and "2 tar files" in err


# --- make/images.py ---------------------------------------------------------------------------------------------------


def test_images_of_lists_and_folders_are_counted() -> None:
    assert images.count_classified(Path(listed(61))) == 61
    for name in ("a/1.JPEG", "a/2.JPEG", "b/3.JPEG"):
        path = Path("classes/val", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert images.count_classified(Path("classes")) == 3
    assert images.count_classified(Path("nowhere")) == images.count_coco(Path("nowhere"), 0) == 0


ANNOTATIONS = Path("coco/annotations/person_keypoints_val2017.json")


def annotate(count: int, path: Path = ANNOTATIONS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    entry = '{"id": 1, "file_name": "000000000001.jpg", "width": 6, "height": 4}'
    path.write_text(f'{{"images": [{", ".join([entry] * count)}]}}')


def test_images_of_coco_are_counted() -> None:
    for count in (7, 20):
        annotate(count)
        assert images.count_coco(ANNOTATIONS, 0) == count
    assert images.count_coco(ANNOTATIONS, 10_000) == 0, "the file is not read, since it is too small for so many images"


def test_a_large_coco_set_is_computed_in_parts() -> None:
    Path("coco/images/val2017").mkdir(parents=True)
    annotate(LIMIT)
    assert shards(MODEL="people", DATASET="coco") == ("1", "")
    annotate(LIMIT + 1)
    assert shards(MODEL="people", DATASET="coco") == ("5", "1")


# --- the state of the data set ----------------------------------------------------------------------------------------


def preprocessed(state: object, path: str = "build/net/prep/set-float32/settings.json") -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps({"data": state}))


def test_a_data_set_that_changed_is_preprocessed_again() -> None:
    dataset = listed(3)
    watched = {f"{dataset}/val": changed.state(f"{dataset}/val"), f"{dataset}/val_list.txt": None}
    watched[f"{dataset}/val_label.txt"] = changed.state(f"{dataset}/val_label.txt")
    assert resolve(DATASET=dataset)["DATA_CHANGED"] == "", "nothing is recorded yet"
    preprocessed(watched)
    assert resolve(DATASET=dataset)["DATA_CHANGED"] == ""
    Path(dataset, "val/new.JPEG").touch()
    assert resolve(DATASET=dataset)["DATA_CHANGED"] == "run-again"
    preprocessed({**watched, f"{dataset}/val": changed.state(f"{dataset}/val")})
    assert resolve(DATASET=dataset)["DATA_CHANGED"] == ""
    Path(dataset, "val_list.txt").touch()
    assert resolve(DATASET=dataset)["DATA_CHANGED"] == "run-again", "a list that was not there"
    Path(dataset, "val_list.txt").unlink()
    Path(dataset, "val_label.txt").write_text("a 0\n")
    assert resolve(DATASET=dataset)["DATA_CHANGED"] == "run-again", "another list"


@pytest.mark.parametrize("state", [{"set/gone": [1, 2]}, None, [], "text"])
def test_a_missing_directory_or_a_damaged_record_is_preprocessed_again(state: object) -> None:
    dataset = listed(3)
    preprocessed(state)
    assert resolve(DATASET=dataset)["DATA_CHANGED"] == "run-again"


def test_parts_have_their_own_record() -> None:
    dataset = listed(3)
    path = "build/net/eval/set-float32/onnxruntime-bs16-fp32/parts/data.json"
    preprocessed({dataset: [1, 2]}, path)
    assert resolve(DATASET=dataset)["DATA_CHANGED"] == ""
    assert resolve(DATASET=dataset, SHARDS="2")["DATA_CHANGED"] == "run-again"


def test_make_cluster_ignores_values_for_one_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert shards("cluster", SHARDS="4", KEEP="1", DATASET=listed(9)) == ("4", "1")
    assert "KEEP=1 is ignored" in capsys.readouterr().err
    assert shards("cluster", SHARDS="1", DATASET="set")[1] == "1", "the results of one part are also merged"


def test_given_inputs_are_not_divided_among_devices() -> None:
    """The hint does not lead to another error."""
    add_atc(Path())
    Path("inputs").mkdir()
    Path("inputs/manifest.json").write_text("{}")
    line = rejected(PREP="inputs", DEVICE="1,2")
    assert "DEVICE=1,2: " in line and line.endswith("give DEVICE=1, since PREP=inputs is not divided")
    assert resolve(PREP="inputs", DEVICE="1")["DEVICE"] == "1"
