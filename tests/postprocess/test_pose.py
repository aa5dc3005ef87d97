"""postprocess/pose.py: COCO's ten figures as pycocotools computes them, the gate, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import pytest

from hrnet.io.files import sha256_file
from hrnet.io.runs import DecodeRecord
from hrnet.pose.average_precision import FIGURES, evaluate, ground_truth
from postprocess import gate
from postprocess.pose import main
from tests.postprocess.coco_scenes import results, scene
from tests.postprocess.pose_runs import OTHER, PoseRun

IMAGES = 8
SCENE = scene(5, IMAGES, 5)
IDS = [image["id"] for image in SCENE["images"]]
REFERENCE = "REFERENCE: {AP: 80.0, SOURCE: the paper}\n"


def exact(dataset: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"image_id": each["image_id"], "category_id": 1, "keypoints": each["keypoints"], "score": 1.0}
        for each in dataset["annotations"]
    ]


def evaluated(run: PoseRun, *more: str) -> dict[str, Any]:
    assert main(run.coco_arguments(*more)) == 0
    content: dict[str, Any] = json.loads(run.metrics.read_text())
    return content


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.removeprefix("postprocess.pose: error: ").rstrip("\n")


def test_perfect_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert any(each["iscrowd"] for each in SCENE["annotations"]), "a crowd is among them, and costs nothing"
    assert set(IDS) - {each["image_id"] for each in SCENE["annotations"]}, "so is an image of nobody"
    people = exact(SCENE)
    run = PoseRun(tmp_path, SCENE).find(people)
    found = evaluated(run)
    assert {name: round(value, 9) for name, value in found["metrics"].items()} == dict.fromkeys(FIGURES, 100.0)
    assert found["interval95"]["AP"] == pytest.approx([100.0, 100.0])
    assert (found["name"], found["images"], found["people"], found["flip"]) == ("pose", IMAGES, len(people), True)
    assert found["counts"] == {"inputs": IMAGES, "outputs": IMAGES, "evaluated": IMAGES, "rejected": 0}
    assert found["evaluated"] == {
        "manifest_sha256": sha256_file(run.manifest),
        "keypoints_sha256": sha256_file(run.keypoints),
        "model_sha256": DecodeRecord.read(run.keypoints).model_sha256,
    }
    assert found["images_per_second"] == {"infer end to end": IMAGES / 2}
    assert found["decode_milliseconds_an_image"] == {"read": 250 / IMAGES, "group": 500 / IMAGES}
    first, second, *gears = capsys.readouterr().out.splitlines()
    assert first.startswith(f"evaluated {len(people)} people on {IMAGES} images into {run.metrics} (")
    assert second == "  ".join(f"{name} 100.0" for name in FIGURES)
    assert gears == ["  128x128: 4 images, AP 100.0", "  128x192: 4 images, AP 100.0"]


def test_figures_are_cocos_own(tmp_path: Path) -> None:
    people = results(SCENE, 1, 6.0)
    found = evaluated(PoseRun(tmp_path, SCENE).find(people))
    stats = evaluate(ground_truth(SCENE), people, IDS).stats
    assert list(found["metrics"].values()) == pytest.approx([100 * value for value in stats])
    assert 5 < found["metrics"]["AP"] < 95
    low, high = found["interval95"]["AP"]
    assert low < found["metrics"]["AP"] < high


def test_ap_of_each_gear_is_cocos_of_its_images(tmp_path: Path) -> None:
    people = results(SCENE, 1, 6.0)
    found = evaluated(PoseRun(tmp_path, SCENE).find(people))
    for gear, ids in (("128x128", IDS[::2]), ("128x192", IDS[1::2])):
        alone = [person for person in people if person["image_id"] in ids]
        expected = 100 * evaluate(ground_truth(SCENE), alone, ids).stats[0]
        assert found["gears"][gear] == {"images": len(ids), "AP": pytest.approx(expected)}


def test_a_gear_of_nobody_has_no_ap(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lying = set(IDS[1::2])
    some = {**SCENE, "annotations": [each for each in SCENE["annotations"] if each["image_id"] not in lying]}
    found = evaluated(PoseRun(tmp_path, some).find(exact(some)))
    assert found["gears"]["128x192"] == {"images": 4, "AP": None}
    assert capsys.readouterr().out.endswith("  128x192: 4 images, AP -\n")


def test_only_the_manifest_s_images_count(tmp_path: Path) -> None:
    """The annotation file of 8 images, the first 4 of which were inferred (LIMIT=4)."""
    few = {**SCENE, "images": SCENE["images"][:4]}
    people = [person for person in results(SCENE, 2, 6.0) if person["image_id"] in IDS[:4]]
    run = PoseRun(tmp_path, few).find(people)
    run.annotations.write_text(json.dumps(SCENE))
    found = evaluated(run)
    assert found["metrics"]["AP"] == pytest.approx(100 * evaluate(ground_truth(SCENE), people, IDS[:4]).stats[0])
    assert found["counts"]["evaluated"] == 4


def test_figures_of_a_size_that_nobody_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    large = {**SCENE, "annotations": [{**each, "area": 1e6} for each in SCENE["annotations"]]}
    found = evaluated(PoseRun(tmp_path, large).find(exact(large)))
    assert (found["metrics"]["APM"], found["metrics"]["ARM"]) == (None, None)
    assert "  APM -  " in capsys.readouterr().out


def test_nobody_found_is_0(tmp_path: Path) -> None:
    found = evaluated(PoseRun(tmp_path, SCENE, REFERENCE).find([]))
    assert (found["metrics"]["AP"], found["verdict"]) == (0.0, "fail")


@pytest.mark.parametrize(
    "config, people, more, verdict, code",
    [
        ("", exact(SCENE), (), "not judged", 0),
        (REFERENCE, exact(SCENE), (), "pass", 0),
        (REFERENCE, results(SCENE, 1, 6.0), (), "fail", 1),
        (REFERENCE, results(SCENE, 1, 6.0), ("--gate", "80"), "pass", 0),
    ],
)
def test_the_gate(
    tmp_path: Path, config: str, people: list[dict[str, Any]], more: tuple[str, ...], verdict: str, code: int
) -> None:
    run = PoseRun(tmp_path, SCENE, config).find(people)
    found = evaluated(run, *more)
    assert found["verdict"] == verdict
    if config:
        assert found["reference"] == {"AP": 80.0, "source": "the paper"}
        assert found["drop"]["points"] == pytest.approx(80 - found["metrics"]["AP"])
    assert gate.main([str(run.metrics)]) == code


def test_a_metrics_record_is_the_reference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = PoseRun(tmp_path, SCENE).find(exact(SCENE))
    evaluated(run)
    best = run.metrics.rename(tmp_path / "best.json")
    run.find(results(SCENE, 1, 6.0))
    found = evaluated(run, "--reference", str(best))
    assert found["verdict"] == "fail" and found["reference"]["AP"] == pytest.approx(100)
    assert found["reference"]["source"] == "twin 1 on the same images"
    capsys.readouterr()
    assert gate.main([str(run.metrics)]) == 1
    assert capsys.readouterr().out.startswith("FAIL: pose AP ")
    content = json.loads(best.read_text())
    best.write_text(json.dumps({**content, "evaluated": {**content["evaluated"], "manifest_sha256": OTHER}}))
    assert main(run.coco_arguments("--reference", str(best))) == 2
    assert refusal(capsys).startswith(f"{best}: reference was made on other images; ")


def annotate(run: PoseRun, **changes: Any) -> None:
    run.annotations.write_text(json.dumps({**SCENE, **changes}))


FIRST = SCENE["annotations"][0]
Change = Callable[[PoseRun], object]
REFUSED: dict[str, tuple[Change, str]] = {
    "no file": (lambda run: run.annotations.unlink(), "{annotations}: no such annotations; give DATASET=<folder>"),
    "no JSON": (lambda run: run.annotations.write_text("{"), "{annotations}: is no JSON: Expecting property name"),
    "a list": (
        lambda run: run.annotations.write_text("[]"),
        "{annotations}: is no COCO annotation file (expected a list images, annotations, categories)",
    ),
    "no categories": (
        lambda run: annotate(run, categories=None),
        "{annotations}: is no COCO annotation file (expected a list categories)",
    ),
    "no keypoints": (
        lambda run: annotate(run, annotations=[{key: FIRST[key] for key in FIRST if key != "keypoints"}]),
        "{annotations}: is no keypoint annotation file (expected area, bbox, id, image_id, iscrowd, keypoints, "
        "num_keypoints, 51 keypoints, found annotation 1)",
    ),
    "keypoints that are none": (
        lambda run: annotate(run, annotations=[{**FIRST, "keypoints": None}]),
        "{annotations}: is no keypoint annotation file (expected area, bbox, id, image_id, iscrowd, keypoints, "
        "num_keypoints, 51 keypoints, found annotation 1)",
    ),
    "too few keypoints": (
        lambda run: annotate(run, annotations=[{**FIRST, "keypoints": [0] * 50}]),
        "{annotations}: is no keypoint annotation file (expected area, bbox, id, image_id, iscrowd, keypoints, "
        "num_keypoints, 51 keypoints, found annotation 1)",
    ),
    "images lacking": (
        lambda run: annotate(run, images=SCENE["images"][2:]),
        "{annotations}: does not know images of the manifest (found 10, 20); give the annotations of the same data set",
    ),
    "nobody": (
        lambda run: annotate(run, annotations=[]),
        "{annotations}: AP needs a person with keypoints (found nobody on 8 images); give more images: LIMIT=0",
    ),
    "a crowd alone": (
        lambda run: annotate(run, annotations=[{**FIRST, "iscrowd": 1}]),
        "{annotations}: AP needs a person with keypoints (found nobody on 8 images); give more images: LIMIT=0",
    ),
    "other config": (
        lambda run: run.cfg.write_text(run.cfg.read_text().replace("[128, 192]", "[128, 256]")),
        "{manifest}: was made for another config than {cfg}; run make preprocess",
    ),
    "other inputs": (
        lambda run: run.find([], manifest_sha256=OTHER),
        "{keypoints}: was decoded from other inputs (expected those of {manifest}); run make eval",
    ),
    "images too few": (lambda run: run.find([], images=3), "{keypoints}: images (expected 8, found 3)"),
    "people of elsewhere": (
        lambda run: run.find([{**exact(SCENE)[0], "image_id": 7}]),
        "{keypoints}: people of images that are not in the manifest (found 7)",
    ),
    "other keypoints": (
        lambda run: run.keypoints.write_text("[]"),
        "{decoded}: speaks of other keypoints (expected the hash of {keypoints}); rm {decoded}; make eval",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused(tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = PoseRun(tmp_path, SCENE).find(exact(SCENE))
    change, expected = REFUSED[what]
    change(run)
    assert main(run.coco_arguments()) == 2
    line = refusal(capsys)
    decoded = DecodeRecord.path(run.keypoints)
    names = {"annotations": run.annotations, "manifest": run.manifest, "cfg": run.cfg}
    expected = expected.format(keypoints=run.keypoints, decoded=decoded, **names)
    assert line.startswith(expected) and "\n" not in line
    assert not run.metrics.exists()
