"""The verdict: the drop from the reference, the line, and the exit code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hrnet
from hrnet.io.records import write_record
from hrnet.schemas import SCHEMAS
from postprocess.gate import judge, main, other_references, wilson_interval

REFERENCE = {"top1": 76.8, "top5": 93.4, "source": "the paper"}


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [
        (8, 10, 0.4901625, 0.9433178),
        (0, 10, 0.0, 0.2775328),
        (10, 10, 0.7224672, 1.0),
        (1, 2, 0.0945312, 0.9054688),
        (1, 1, 0.2065493, 1.0),
        (38230, 50000, 0.7608611, 0.7682982),
    ],
)
def test_the_wilson_interval_has_known_values(hits: int, count: int, low: float, high: float) -> None:
    """Known values: the roots p of (p - hits / count)**2 = z**2 * p * (1 - p) / count."""
    assert wilson_interval(hits / count, count) == pytest.approx((low, high), abs=5e-8)


@given(st.integers(1, 50_000).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count))))
def test_the_wilson_interval_contains_the_fraction(counts: tuple[int, int]) -> None:
    hits, count = counts
    low, high = wilson_interval(hits / count, count)
    assert 0.0 <= low <= hits / count + 1e-12
    assert hits / count - 1e-12 <= high <= 1.0


@pytest.mark.parametrize(
    ("value", "allowed", "verdict"),
    [
        (76.8, 1.0, "pass"),
        (99.0, 1.0, "pass"),  # better than the reference
        (75.8, 1.0, "pass"),  # exactly at the allowed drop
        (75.6, 1.2, "pass"),  # passes, although 76.8 - 75.6 is 1.2000000000000028
        (75.798, 1.0, "fail"),  # one image of 50,000 below it
        (76.8, 0.0, "pass"),
        (76.798, 0.0, "fail"),
        (0.0, 1.0, "fail"),
    ],
)
def test_a_drop_within_the_gate_passes(value: float, allowed: float, verdict: str) -> None:
    assert judge("top1", value, REFERENCE, allowed) == {
        "gate": {"metric": "top1", "allowed_points": allowed},
        "reference": REFERENCE,
        "drop": {"points": 76.8 - value, "relative_percent": 100 * (76.8 - value) / 76.8},
        "verdict": verdict,
    }


def test_a_drop_of_exactly_one_point_passes() -> None:
    """5 of 500 images are one point, also where binary fractions are inexact."""
    for hits in range(6, 501):
        reference, value, less = (100 * (count / 500) for count in (hits, hits - 5, hits - 6))
        assert judge("top1", value, {"top1": reference}, 1.0)["verdict"] == "pass", hits
        assert judge("top1", less, {"top1": reference}, 1.0)["verdict"] == "fail", hits


def test_a_run_without_a_reference_is_not_judged() -> None:
    found = judge("top1", 5.0, None, 1.0, "no figure")
    assert found.pop("why") == "no figure"
    gate = {"metric": "top1", "allowed_points": 1.0}
    assert found == {"gate": gate, "reference": None, "drop": None, "verdict": "not judged"}


@pytest.mark.parametrize(
    ("network", "accepted"), [("cls_hrnet", "torch"), ("pose_higher_hrnet", "torch"), ("onnx", "onnx")]
)
def test_only_references_that_the_model_can_have_are_proposed(
    network: str, accepted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SCHEMAS[network]()
    assert re.findall("REFERENCE=([a-z]+)", other_references(config)) == [accepted]
    monkeypatch.setattr(hrnet, "BOARD", True)
    assert not re.findall("REFERENCE=([a-z]+)", other_references(config)), "a board lacks the files to measure one"


def test_a_reference_on_other_images_does_not_judge() -> None:
    """Even a value far below it does not fail."""
    found = judge("top1", 5.0, REFERENCE, 1.0, "a subset")
    assert (found["verdict"], found["why"], found["drop"], found["reference"]) == (
        "not judged",
        "a subset",
        None,
        REFERENCE,
    )


def test_a_reference_of_0_is_accepted() -> None:
    """Random weights on a few images."""
    judged = judge("top1", 0.0, {"top1": 0.0}, 1.0)
    assert (judged["drop"], judged["verdict"]) == ({"points": 0.0, "relative_percent": 0.0}, "pass")


def metrics(value: float, reference: Optional[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": "small",
        "metrics": {"top1": value},
        "interval95": {"top1": [value - 2.5, value + 2.25]},
        "images": 200,
        **judge("top1", value, reference, 1.0, None if reference else "no figure"),
    }


@pytest.mark.parametrize(
    ("value", "reference", "code", "parts"),
    [
        (76.0, REFERENCE, 0, ("PASS: small top1 76.00%", "73.50 to 78.25", "76.80%", "the paper", " 0.80 points")),
        (
            75.5,
            REFERENCE,
            1,
            (
                "FAIL: small top1 75.50%",
                "73.00 to 77.75",
                "76.80%",
                "the paper",
                "1.30 points, 1 allowed; one image is 0.5 points",
            ),
        ),
        (76.803, REFERENCE, 0, ("PASS: small top1 76.80%", "a drop of 0.00 points, 1 allowed")),
        (
            77.0,
            REFERENCE,
            0,
            ("PASS: small top1 77.00%", "74.50 to 79.25", "a gain of 0.20 points"),
        ),
        (75.5, None, 3, ("NOT JUDGED: small top1 75.50%", "on 200 images", ": no figure")),
    ],
)
def test_the_verdict_has_its_line_and_exit_code(
    value: float,
    reference: Optional[dict[str, Any]],
    code: int,
    parts: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "metrics.json"
    write_record(path, "metrics", metrics(value, reference))
    before = path.read_bytes()
    assert main([str(path)]) == code
    assert main([str(path), "--allow_unjudged"]) == (0 if code == 3 else code)
    first, *following = capsys.readouterr().out.splitlines()
    assert following[-1 - (code == 1)] == first and all(part in first for part in parts), first
    assert path.read_bytes() == before


def test_a_subset_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "metrics.json"
    write_record(path, "metrics", {**metrics(76.0, REFERENCE), "available": 500})
    assert main([str(path)]) == 0
    assert "on 200 of 500 images" in capsys.readouterr().out


def test_rejected_images_are_counted_and_their_list_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "metrics.json"
    rejected: dict[str, Any] = {"counts": {"rejected": 3}, "rejected_in": ["prep/a/rejected.json"]}
    for reference, code in ((REFERENCE, 0), (None, 3)):
        write_record(path, "metrics", {**metrics(76.0, reference), **rejected})
        assert main([str(path)]) == code
        line = capsys.readouterr().out
        assert "on 200 images" in line and "3 rejected" in line and "prep/a/rejected.json" in line
        del rejected["rejected_in"]  # as in a record of an older release
        write_record(path, "metrics", {**metrics(76.0, reference), **rejected})
        assert main([str(path)]) == code and "3 rejected" in capsys.readouterr().out
        rejected["rejected_in"] = ["prep/a/rejected.json"]


@pytest.mark.parametrize(
    "changes",
    [
        {"verdict": ...},
        {"verdict": "passed"},
        {"name": ...},
        {"metrics": ...},
        {"metrics": {"top1": "76.0"}},
        {"metrics": [76.0]},
        {"interval95": {"top1": [73.5]}},
        {"images": ...},
        {"gate": {"metric": "top1"}},
        {"gate": {"metric": "top5", "allowed_points": 1.0}},
        {"gate": {"metric": 0, "allowed_points": 1.0}, "interval95": []},
        {"reference": None},
        {"reference": {"top1": 76.8}},
        {"drop": {"points": []}},
    ],
)
@pytest.mark.parametrize("value", [76.0, 70.0])
def test_an_incomplete_record_is_rejected(
    value: float, changes: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the verdicts `pass` and `fail`; `...` removes the key."""
    path = tmp_path / "metrics.json"
    content = {**metrics(value, REFERENCE), **changes}
    assert main([str(path)]) == 2, "no record"
    assert capsys.readouterr().err.startswith(f"postprocess.gate: error: {path}: ")
    write_record(path, "metrics", {key: each for key, each in content.items() if each is not ...})
    assert main([str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"postprocess.gate: error: {path}: ")


PARTS = {"parts": {"1-of-2.json": "", "2-of-2.json": ""}}
HALF_POINT = {"gate": {"metric": "top1", "allowed_points": 0.5}}
INT8, FP16, FP32 = ({"model": {"precision": name}} for name in ("int8", "fp16", "fp32"))
KEPT = {"model": {"precision": "int8", "keep_float": "0"}}
PUBLISHED = {"reference": {**REFERENCE, "images": 200}}
COMPARE, EVAL, SHOW = (f"make {target} BUILD=o MODEL=small" for target in ("compare", "eval", "show"))


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({}, COMPARE),
        (FP32, COMPARE),
        ({"model": {"torchscript.precision": "fp16"}}, COMPARE),  # KEEP_FLOAT has no effect
        (KEPT, COMPARE),
        (INT8, f"{COMPARE}; {EVAL} KEEP_FLOAT=auto"),
        ({**FP16, **HALF_POINT}, f"{COMPARE}; {EVAL} GATE=0.5 KEEP_FLOAT=auto"),
        ({**FP32, "evaluated": PARTS}, f"{COMPARE} SHARDS=1"),
        ({"evaluated": PARTS, "images": 5000}, f"{COMPARE} SHARDS=1 LIMIT=1000"),
        ({**INT8, **PUBLISHED, "warning": "labels"}, SHOW),
        # A reference without the key `images` was measured with the same labels, so the labels are not the cause
        ({**FP32, "warning": "at chance"}, COMPARE),
    ],
)
@pytest.mark.parametrize("name", ["ascend-bs1-Ascend310P3-noflip.json", "mine-int8.json"])
def test_a_fail_names_the_next_command(
    name: str,
    record: dict[str, Any],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It depends on the content of the record, not on its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BUILD", "o")
    write_record(tmp_path / name, "metrics", {**metrics(70.0, REFERENCE), **record})
    assert main([str(tmp_path / name)]) == 1
    verdict, step = capsys.readouterr().out.splitlines()
    assert verdict.startswith("FAIL") and step.startswith("next: ")
    commands = re.findall(r"make [a-z]+(?: [A-Z0-9_]+=[\w.]+)*", step)
    assert "; ".join(commands) == expected, step
    monkeypatch.setattr("hrnet.BOARD", True)
    assert main([str(tmp_path / name)]) == 1
    assert "next:" not in capsys.readouterr().out, "a board has no make compare"


def test_a_pass_names_no_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_record(tmp_path / "m.json", "metrics", metrics(76.0, REFERENCE))
    assert main([str(tmp_path / "m.json")]) == 0 and "next:" not in capsys.readouterr().out


def test_a_very_small_drop_is_printed_exactly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_record(tmp_path / "m.json", "metrics", {**metrics(76.798, REFERENCE), **judge("top1", 76.798, REFERENCE, 0)})
    assert main([str(tmp_path / "m.json")]) == 1 and "a drop of 0.002 points, 0 allowed" in capsys.readouterr().out
