"""postprocess/pose.py: COCO's ten figures equal pycocotools'; the gate, stamps, and what is rejected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import pytest

from hrnet.io import stamp
from hrnet.io.files import sha256_file
from hrnet.io.parts import keypoints_path
from hrnet.pose.average_precision import FIGURES, evaluate, ground_truth
from postprocess import decode, gate, merge
from postprocess.pose import main
from tests.postprocess.steps import steps_of
from tests.support.coco_scenes import exact, results, scene
from tests.support.pose_run import MODEL, OTHER, PoseRun, spread

IMAGES = 8
SCENE = scene(5, IMAGES, 5)
IDS = [image["id"] for image in SCENE["images"]]
REFERENCE = f"REFERENCE: {{AP: 80.0, IMAGES: {IMAGES}, SOURCE: the paper}}\n"


def evaluated(run: PoseRun, *more: str) -> dict[str, Any]:
    assert merge.main(run.merge_arguments(*more)) == 0
    content: dict[str, Any] = json.loads(run.metrics.read_text())
    return content


def test_exact_people_have_an_ap_of_100(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert any(each["iscrowd"] for each in SCENE["annotations"]), "a crowd is among them, and does not count"
    assert set(IDS) - {each["image_id"] for each in SCENE["annotations"]}, "and an image without people"
    people = exact(SCENE)
    run = PoseRun(tmp_path, SCENE).find(people)
    found = evaluated(run)
    assert {name: round(value, 9) for name, value in found["metrics"].items()} == dict.fromkeys(FIGURES, 100.0)
    assert found["interval95"]["AP"] == pytest.approx([100.0, 100.0])
    assert (found["name"], found["images"], found["people"], found["flip"]) == ("pose", IMAGES, len(people), True)
    assert found["counts"] == {"inputs": IMAGES, "outputs": IMAGES, "evaluated": IMAGES, "rejected": 0}
    assert found["evaluated"] == {
        "manifest_sha256": sha256_file(run.manifest),
        "predictions_sha256": sha256_file(run.predictions),
        "keypoints_sha256": sha256_file(run.keypoints),
        "model_sha256": MODEL,
    }
    assert found["images_per_second"] == {"infer end to end": IMAGES / 2, "device alone": None}
    assert found["decode_milliseconds_an_image"] == {"read": 250 / IMAGES, "group": 500 / IMAGES}
    assert capsys.readouterr().out.splitlines()[1] == "  ".join(f"{name} 100.0" for name in FIGURES)


def test_all_figures_equal_pycocotools(tmp_path: Path) -> None:
    people = results(SCENE, 1, 6.0)
    found = evaluated(PoseRun(tmp_path, SCENE).find(people))
    stats = evaluate(ground_truth(SCENE), people, IDS).stats
    assert list(found["metrics"].values()) == pytest.approx([100 * value for value in stats])
    assert 5 < found["metrics"]["AP"] < 95
    low, high = found["interval95"]["AP"]
    assert low < found["metrics"]["AP"] < high


def test_ap_of_each_gear_equals_pycocotools(tmp_path: Path) -> None:
    people = results(SCENE, 1, 6.0)
    found = evaluated(PoseRun(tmp_path, SCENE).find(people))
    for gear, ids in (("128x128", IDS[::2]), ("128x192", IDS[1::2])):
        alone = [person for person in people if person["image_id"] in ids]
        expected = 100 * evaluate(ground_truth(SCENE), alone, ids).stats[0]
        assert found["gears"][gear] == {"images": len(ids), "AP": pytest.approx(expected)}


def test_ap_of_single_images_and_by_number_of_people_equals_pycocotools(tmp_path: Path) -> None:
    people = results(SCENE, 1, 6.0)
    found = evaluated(PoseRun(tmp_path, SCENE).find(people))

    def ap(ids: list[int]) -> float:
        alone = [person for person in people if person["image_id"] in ids]
        return float(100 * evaluate(ground_truth(SCENE), alone, ids).stats[0])

    annotated = [each["image_id"] for each in SCENE["annotations"] if each["num_keypoints"] and not each["iscrowd"]]
    counts = {image_id: annotated.count(image_id) for image_id in IDS}
    ends = {"1": (1, 1), "2": (2, 2), "3-4": (3, 4), "5-8": (5, 8), "9+": (9, 99)}
    groups = {name: [i for i in IDS if low <= counts[i] <= high] for name, (low, high) in ends.items()}
    expected = {name: {"images": len(ids), "AP": pytest.approx(ap(ids))} for name, ids in groups.items() if ids}
    assert found["crowds"] == expected
    each_ap = {image_id: ap([image_id]) for image_id in IDS if counts[image_id]}
    assert [row["AP"] for row in found["worst_images"]] == pytest.approx(sorted(each_ap.values())[:12])
    for row in found["worst_images"]:
        assert row["AP"] == pytest.approx(each_ap[row["image_id"]]) and row["people"] == counts[row["image_id"]]


def test_a_gear_without_people_has_no_ap(tmp_path: Path) -> None:
    landscape = set(IDS[1::2])
    some = {**SCENE, "annotations": [each for each in SCENE["annotations"] if each["image_id"] not in landscape]}
    found = evaluated(PoseRun(tmp_path, some).find(exact(some)))
    assert found["gears"]["128x192"] == {"images": 4, "AP": None}


def test_only_images_of_the_manifest_count(tmp_path: Path) -> None:
    """The annotation file of 8 images, the first 4 of which were inferred (LIMIT=4)."""
    few = {**SCENE, "images": SCENE["images"][:4]}
    people = [person for person in results(SCENE, 2, 6.0) if person["image_id"] in IDS[:4]]
    run = PoseRun(tmp_path, few).find(people)
    run.annotations.write_text(json.dumps(SCENE))
    found = evaluated(run)
    assert found["metrics"]["AP"] == pytest.approx(100 * evaluate(ground_truth(SCENE), people, IDS[:4]).stats[0])
    assert found["counts"]["evaluated"] == 4


def test_figures_of_a_size_without_people_are_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    large = {**SCENE, "annotations": [{**each, "area": 1e5} for each in SCENE["annotations"]]}
    found = evaluated(PoseRun(tmp_path, large).find(exact(large)))
    assert (found["metrics"]["APM"], found["metrics"]["ARM"]) == (None, None)
    printed = capsys.readouterr().out
    assert "  APM -  " in printed and "\nby gear (height x width):\n" in printed


def test_ap_is_0_if_no_people_are_found(tmp_path: Path) -> None:
    found = evaluated(PoseRun(tmp_path, SCENE, REFERENCE).find([]))
    assert (found["metrics"]["AP"], found["verdict"]) == (0.0, "fail")


@pytest.mark.parametrize(
    "config, people, more, verdict, code",
    [
        ("", exact(SCENE), (), "not judged", 3),
        (REFERENCE, exact(SCENE), (), "pass", 0),
        (REFERENCE, results(SCENE, 1, 6.0), (), "fail", 1),
        (REFERENCE, results(SCENE, 1, 6.0), ("--gate", "80"), "pass", 0),
    ],
)
def test_the_gate_judges_ap(
    tmp_path: Path, config: str, people: list[dict[str, Any]], more: tuple[str, ...], verdict: str, code: int
) -> None:
    run = PoseRun(tmp_path, SCENE, config).find(people)
    found = evaluated(run, *more)
    assert found["verdict"] == verdict
    if config:
        assert found["reference"] == {"AP": 80.0, "source": "the paper", "images": IMAGES}
        assert found["drop"]["points"] == pytest.approx(80 - found["metrics"]["AP"])
    assert gate.main([str(run.metrics)]) == code


def test_a_metrics_record_can_be_the_reference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = PoseRun(tmp_path, SCENE).find(exact(SCENE))
    evaluated(run)
    best = run.metrics.rename(tmp_path / "best.json")
    run.find(results(SCENE, 1, 6.0))
    found = evaluated(run, "--reference", str(best))
    assert found["verdict"] == "fail" and found["reference"]["AP"] == pytest.approx(100)
    assert found["reference"]["source"] == "emulator 1 on the same images"
    capsys.readouterr()
    assert gate.main([str(run.metrics)]) == 1
    assert capsys.readouterr().out.startswith("FAIL: pose AP ")
    content = json.loads(best.read_text())
    best.write_text(json.dumps({**content, "images_sha256": OTHER}))
    assert merge.main(run.merge_arguments("--reference", str(best))) == 2
    assert f"error: {best}: " in capsys.readouterr().err


def annotate(run: PoseRun, **changes: Any) -> None:
    run.annotations.write_text(json.dumps({**SCENE, **changes}))


def without(*ids: int) -> dict[str, Any]:
    """The scene's images and people without these images."""
    return {
        "images": [image for image in SCENE["images"] if image["id"] not in ids],
        "annotations": [person for person in SCENE["annotations"] if person["image_id"] not in ids],
    }


FIRST = SCENE["annotations"][0]
Change = Callable[[PoseRun], object]
REJECTED: dict[str, tuple[Change, str, str]] = {  # a change, the file that is named, and a part of the line
    "no file": (lambda run: run.annotations.unlink(), "{annotations}", "DATASET"),
    "no categories": (lambda run: annotate(run, categories=None), "{annotations}", "categories"),
    "50 numbers": (lambda run: annotate(run, annotations=[{**FIRST, "keypoints": [0] * 50}]), "{annotations}", "51"),
    "images lacking": (lambda run: annotate(run, **without(10, 20)), "{annotations}", "found 10, 20"),
    "people of other images": (lambda run: annotate(run, images=SCENE["images"][2:]), "{annotations}", "image_id"),
    "NaN": (lambda run: annotate(run, annotations=[{**FIRST, "area": float("nan")}]), "{annotations}", "NaN"),
    "no people": (lambda run: annotate(run, annotations=[]), "{annotations}", "LIMIT=0"),
    "only a crowd": (lambda run: annotate(run, annotations=[{**FIRST, "iscrowd": 1}]), "{annotations}", "LIMIT=0"),
    "other config": (lambda run: run.edit_config("[128, 192]", "[128, 256]"), "{part}", "config differs"),
    "too few images": (lambda run: run.find([], images=3), "{parts}", "expected 8, as in the list of images, found 3"),
    "people on other images": (lambda run: run.find([{**exact(SCENE)[0], "image_id": 7}]), "{keypoints}", "found 7"),
    "other keypoints": (lambda run: keypoints_path(run.part).write_text("[]"), "{found}", "rm {part}; make part"),
}


@pytest.mark.parametrize("what", REJECTED)
def test_files_that_do_not_match_are_rejected(tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = PoseRun(tmp_path, SCENE).find(exact(SCENE))
    change, where, part = REJECTED[what]
    change(run)
    assert merge.main(run.merge_arguments()) == 2
    names = {"annotations": run.annotations, "part": run.part, "parts": run.part.parent, "keypoints": run.keypoints}
    names["found"] = keypoints_path(run.part)
    line = capsys.readouterr().err
    assert line.startswith(f"postprocess.merge: error: {where.format(**names)}: ") and line.count("\n") == 1
    assert part.format(**names) in line
    assert not run.metrics.exists()


@pytest.mark.parametrize(
    "more", [[], ["--run", "a_run.json", "--dump_dir", "b"], ["--run", "a_run.json", "--part", "c"]]
)
def test_other_combinations_of_runs_and_products_are_rejected(more: list[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        main(PoseRun(tmp_path, SCENE).arguments(*more))
    assert caught.value.code == 2


# --- decoding, and the stamps -----------------------------------------------------------------------------------------


@pytest.fixture
def finished(tmp_path: Path) -> PoseRun:
    """Runs that are decoded and evaluated."""
    run = PoseRun(tmp_path, spread()).infer()
    assert main(run.run_arguments()) == 0
    return run


DECODE, EVALUATE = "decode_runs", "evaluate_people"


def work(run: PoseRun, monkeypatch: pytest.MonkeyPatch, *options: str) -> list[str]:
    """The steps of a call: decode, evaluate, both or none."""
    return steps_of(lambda: main(run.run_arguments(*options)), monkeypatch, [(decode, DECODE), (merge, EVALUATE)])


def test_runs_are_decoded_and_evaluated(finished: PoseRun) -> None:
    keypoints, metrics = finished.keypoints.read_bytes(), json.loads(finished.metrics.read_text())
    assert metrics["flip"] is True and metrics["people"] == 5 and metrics["metrics"]["AP"] > 90
    assert main(finished.decode_arguments()) == 0
    assert keypoints_path(finished.part).read_bytes() == keypoints
    assert main(finished.arguments("--run", f"{finished.folder}_run.json")) == 0
    assert json.loads(finished.metrics.read_text())["flip"] is False


def test_a_second_run_only_touches(finished: PoseRun, monkeypatch: pytest.MonkeyPatch) -> None:
    products = [finished.part, finished.keypoints, finished.predictions, finished.metrics]
    before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in products]
    assert work(finished, monkeypatch) == []
    for path, (content, moment) in zip(products, before):
        assert path.read_bytes() == content and path.stat().st_mtime_ns > moment


BOTH, SECOND = [DECODE, EVALUATE], [EVALUATE]
CHANGES: dict[str, tuple[Change, list[str]]] = {
    "the run": (lambda run: run.rewrite(run.folder, batch=2), BOTH),
    "the flipped run": (lambda run: run.rewrite(run.flipped, batch=2), BOTH),
    "damaged keypoints": (lambda run: keypoints_path(run.part).write_text("[]"), BOTH),
    "no record of decoding": (lambda run: run.part.unlink(), BOTH),
    "damaged joined keypoints": (lambda run: run.keypoints.write_text("[]"), SECOND),
    "a threshold": (lambda run: run.edit_config("true}", "true, TAG_THRESHOLD: 2.0}"), BOTH),
    "the reference figure": (lambda run: run.edit_config("DATASET:", f"{REFERENCE}DATASET:"), SECOND),
    "the annotations": (lambda run: run.annotations.write_text(run.annotations.read_text() + " "), SECOND),
    "damaged metrics": (lambda run: run.metrics.write_text("{}"), SECOND),
    "no metrics": (lambda run: run.metrics.unlink(), SECOND),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_repeats_what_depends_on_it(what: str, finished: PoseRun, monkeypatch: pytest.MonkeyPatch) -> None:
    change, expected = CHANGES[what]
    change(finished)
    assert work(finished, monkeypatch) == expected
    assert work(finished, monkeypatch) == []


def test_other_options_or_code_repeat_the_work(finished: PoseRun, monkeypatch: pytest.MonkeyPatch) -> None:
    assert work(finished, monkeypatch, "--gate", "2") == SECOND
    monkeypatch.setattr(stamp, "code_sha256", lambda module: module)
    assert work(finished, monkeypatch, "--gate", "2") == BOTH
    monkeypatch.setattr(stamp, "code_sha256", lambda module: module.replace("merge", "changed"))
    assert work(finished, monkeypatch, "--gate", "2") == SECOND, "only the code of the evaluation changed"
