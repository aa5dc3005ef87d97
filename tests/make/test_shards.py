"""make/shards.py: the order of parts, their devices, which files are kept and removed, and what stops a run."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, Optional

import pytest

from hrnet.cli import UserError, WorkFailed
from hrnet.code import code_sha256
from hrnet.io.files import locked, sha256_file
from hrnet.io.parts import reference_path
from hrnet.io.records import write_record
from hrnet.shards import Shard
from make import shards
from tests.support.image_sets import write_images
from tests.support.part_files import write_inputs, write_part

IMAGES = 10
PARTS = Path("parts")


class Stages(shards.Stages):
    """Fakes of the stages: they write the files of a part without computing them, and log their calls."""

    log: list[tuple[str, str, str]]  # stage, part, device
    on_disk: list[int]  # number of the parts' directories when a stage starts
    fail: dict[tuple[str, str], Exception]  # (stage, part) -> what it raises
    wait: Callable[[str, str], None]

    def run(self, name: str, lock: int, **values: Any) -> None:
        if self.stopped:
            raise shards.Stopped
        assert lock > 2
        part = values["shard"]
        self.log.append((name, str(part), values.get("device", "")))
        self.on_disk.append(sum(path.is_dir() for path in PARTS.iterdir()))
        self.wait(name, str(part))
        if error := self.fail.get((name, str(part))):
            raise error
        if name == "preprocess":
            (values["work"] / "prep").mkdir(exist_ok=True)
            write_record(values["work"] / "prep/settings.json", "settings", {"data": {f"set/{part}": [1, 2]}})
        elif name == "evaluate":
            write_part(values["part"], part)
        elif name == "reference":
            code = code_sha256("train.classification.reference")
            hashes = {"weights_sha256": sha256_file("net.pth"), "code_sha256": code}
            write_record(Path(f"{values['reference']}.json"), "metrics", hashes)


@pytest.fixture
def stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Stages]]:
    """A data set, a compiled model, and the fakes of the stages."""
    monkeypatch.chdir(tmp_path)
    write_inputs(IMAGES)
    Path("net.pth").write_bytes(b"weights")
    Stages.log, Stages.on_disk, Stages.fail = [], [], {}
    Stages.wait = staticmethod(lambda name, part: None)  # type: ignore[assignment]
    monkeypatch.setattr(shards, "Stages", Stages)
    yield Stages


def call(count: int, *more: str, device: str = "0", shard: Optional[str] = None) -> int:
    number = ["--shard", shard] if shard else ["--shards", str(count)]
    named = ["--cfg", "small.yaml", "--dataset", "set", "--model", "m.onnx", "--parts", "parts", "--device", device]
    commands = ["--preprocess", "a", "--infer", "b", "--evaluate", "c"]
    return shards.main([*named, *number, *commands, *more])


def stages_of(part: str, log: list[tuple[str, str, str]]) -> list[str]:
    return [name for name, each, _ in log if each == part]


def test_all_parts_run_in_order_and_inputs_are_removed(stages: type[Stages]) -> None:
    assert call(4) == 0
    for part in ("1/4", "2/4", "3/4", "4/4"):
        assert stages_of(part, stages.log) == ["preprocess", "infer", "evaluate"]
    assert [part for name, part, _ in stages.log if name == "infer"] == ["1/4", "2/4", "3/4", "4/4"]
    assert {device for name, _, device in stages.log if name == "infer"} == {"0"}
    assert sorted(path.name for path in PARTS.iterdir() if not path.name.endswith("_lock")) == sorted(
        ["data.json", *(f"{k}-of-4.{ending}" for k in range(1, 5) for ending in ("json", "predictions.jsonl"))]
    )
    state = json.loads((PARTS / "data.json").read_text())["data"]
    assert state == {f"set/{k}/4": [1, 2] for k in range(1, 5)}, "what preprocessing of all parts saw"
    assert max(stages.on_disk) <= 2, "the part that is inferred and the next one"


def test_the_next_part_is_preprocessed_while_one_is_inferred(stages: type[Stages]) -> None:
    prepared = threading.Event()

    def wait(name: str, part: str) -> None:
        if (name, part) == ("preprocess", "2/3"):
            prepared.set()
        if (name, part) == ("infer", "1/3"):
            assert prepared.wait(10)

    stages.wait = staticmethod(wait)  # type: ignore[assignment]
    assert call(3) == 0


def test_each_device_takes_the_next_part(stages: type[Stages]) -> None:
    """Four devices infer at the same time: each waits for the others."""
    together = threading.Barrier(4, timeout=10)
    stages.wait = staticmethod(lambda name, part: together.wait() if name == "infer" else None)  # type: ignore[assignment]
    assert call(8, device="0,1,2,3") == 0
    used = [device for name, _, device in stages.log if name == "infer"]
    assert sorted(used) == ["0", "0", "1", "1", "2", "2", "3", "3"]
    assert max(stages.on_disk) <= 5


def test_finished_parts_are_kept(stages: type[Stages], capsys: pytest.CaptureFixture[str]) -> None:
    stages.fail = {("infer", "2/3"): UserError("part 2/3: infer failed, see above")}
    assert call(3) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "2/3" in line
    assert not (PARTS / "2-of-3.json").exists() and (PARTS / "2-of-3/prep").is_dir(), "inputs are kept for a rerun"
    stages.fail = {}
    stages.log.clear()
    assert call(3) == 0
    assert stages_of("1/3", stages.log) == [] and stages_of("2/3", stages.log) == ["preprocess", "infer", "evaluate"]
    stages.log.clear()
    assert call(3) == 0
    assert stages.log == []


CHANGES: dict[str, Callable[[], object]] = {
    "no record": lambda: (PARTS / "2-of-3.json").unlink(),
    "no predictions": lambda: (PARTS / "2-of-3.predictions.jsonl").unlink(),
    "other weights": lambda: write_part(PARTS / "2-of-3.json", Shard(2, 3), model_sha256=64 * "0"),
    "another config": lambda: write_part(PARTS / "2-of-3.json", Shard(2, 3), config_sha256=64 * "0"),
    "other code": lambda: write_part(PARTS / "2-of-3.json", Shard(2, 3), code_sha256=64 * "0"),
    "the flip test": lambda: write_part(PARTS / "2-of-3.json", Shard(2, 3), flip=True),
    "another part": lambda: write_part(PARTS / "2-of-3.json", Shard(3, 3)),
    "an image changed": lambda: write_images(Path("set/val"), ["4.png"], (51, 60)),
}


@pytest.mark.parametrize("what", CHANGES)
def test_an_outdated_part_is_computed_again(what: str, stages: type[Stages]) -> None:
    assert call(3) == 0
    CHANGES[what]()
    stages.log.clear()
    assert call(3) == 0
    assert {part for _, part, _ in stages.log} == {"2/3"}


def test_another_list_computes_all_parts(stages: type[Stages]) -> None:
    assert call(3) == 0
    (Path("set/val") / "9.png").unlink()
    stages.log.clear()
    assert call(3) == 0
    assert {part for _, part, _ in stages.log} == {"1/3", "2/3", "3/3"}


def test_all_parts_are_computed_again_if_the_data_set_grew_beyond_limit(stages: type[Stages]) -> None:
    """The images of each part are the same, but its record must show that they are no longer the whole data set."""
    assert call(2, "--limit", str(IMAGES)) == 0
    with open("set/val_label.txt", "a") as labels:
        labels.write("zz.png 0\n")
    write_images(Path("set/val"), ["zz.png"])
    stages.log.clear()
    assert call(2, "--limit", str(IMAGES)) == 0
    assert {part for _, part, _ in stages.log} == {"1/2", "2/2"}


def test_one_part_can_be_computed(stages: type[Stages]) -> None:
    assert call(0, shard="2/3") == 0
    assert {part for _, part, _ in stages.log} == {"2/3"}
    assert [path.name for path in PARTS.glob("*.json")] == ["2-of-3.json"]


def test_two_runs_of_one_part_exclude_each_other(stages: type[Stages], capsys: pytest.CaptureFixture[str]) -> None:
    PARTS.mkdir()
    with locked(PARTS / "2-of-3_lock"):
        assert call(0, shard="2/3") == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "2-of-3_lock" in line
    assert stages.log == []


def test_a_missing_model_is_rejected(stages: type[Stages], capsys: pytest.CaptureFixture[str]) -> None:
    Path("m.onnx").unlink()
    assert call(0, shard="2/3") == 2
    line = capsys.readouterr().err
    assert "m.onnx" in line and "make om" in line
    assert stages.log == [] and not PARTS.exists()


def test_keep_does_not_remove_inputs_and_outputs(stages: type[Stages]) -> None:
    assert call(3, "--keep") == 0
    assert all((PARTS / f"{number}-of-3/prep").is_dir() for number in (1, 2, 3))
    assert call(3) == 0
    assert not any(path.is_dir() for path in PARTS.iterdir()), "a later run without --keep removes them"


def test_files_of_a_killed_run_with_other_shards_are_removed(stages: type[Stages]) -> None:
    (PARTS / "5-of-9/prep").mkdir(parents=True)
    (PARTS / "6-of-9/prep").mkdir(parents=True)
    with locked(PARTS / "6-of-9_lock"):
        assert call(3) == 0
    assert [path.name for path in PARTS.iterdir() if path.is_dir()] == ["6-of-9"], "but not of one that is running"


def test_pytorchs_accuracy_is_computed_for_each_part(stages: type[Stages]) -> None:
    """A rerun computes it for parts that have none, and for parts whose figure is for other weights."""
    torch = ("--reference", "python -m train.classification.reference", "--weights", "net.pth")
    assert call(2) == 0
    stages.log.clear()
    assert call(2, *torch) == 0
    assert stages_of("1/2", stages.log) == ["preprocess", "reference"], "the predictions are there"
    assert reference_path(PARTS / "2-of-2.json").is_file()
    stages.log.clear()
    assert call(2, *torch) == 0 and stages.log == []
    Path("net.pth").write_bytes(b"other weights")
    assert call(2, *torch) == 0
    assert stages_of("1/2", stages.log) == ["preprocess", "reference"]
    (PARTS / "2-of-2.json").unlink()
    stages.log.clear()
    assert call(2, *torch) == 0
    assert stages_of("1/2", stages.log) == [] and len(stages_of("2/2", stages.log)) == 4


def test_more_parts_than_images_are_rejected(stages: type[Stages], capsys: pytest.CaptureFixture[str]) -> None:
    stages.fail = {("preprocess", "1/11"): UserError("more parts than images")}
    assert call(11) == 2
    assert capsys.readouterr().err.count("\n") == 1


# --- the real processes -----------------------------------------------------------------------------------------------


def test_values_are_filled_in_and_exit_codes_are_kept(tmp_path: Path) -> None:
    with locked(tmp_path / "lock") as lock:
        commands = {"infer": f"bash -c 'echo {{shard}} {{work}} > {tmp_path}/output'", "bad": "bash -c 'exit {code}'"}
        stages = shards.Stages(commands)
        stages.run("infer", lock, shard=Shard(1, 2), work="the work")
        assert (tmp_path / "output").read_text() == "1/2 the work\n"
        for code, kind in ((1, WorkFailed), (2, UserError), (3, WorkFailed)):
            with pytest.raises(kind) as caught:
                stages.run("bad", lock, shard=Shard(1, 2), code=code)
            assert type(caught.value) is kind and caught.value.found == f"exit {code}"


def test_stop_ends_the_running_stages(tmp_path: Path) -> None:
    stages = shards.Stages({"infer": "sleep 60"})
    results: list[BaseException] = []

    def work() -> None:
        try:
            with locked(tmp_path / "lock") as lock:
                stages.run("infer", lock, shard=Shard(1, 2))
        except shards.Stopped as error:
            results.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while not stages._running:
        pass
    stages.stop()
    thread.join(10)
    assert len(results) == 1
    with pytest.raises(shards.Stopped):
        stages.run("infer", 3, shard=Shard(1, 2))
