"""hrnet/io/summary.py: the info file, and ais_bench's summary with each way in which one can be invalid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Optional

import pytest

from hrnet.io.records import FormatError
from hrnet.io.summary import outputs_by_stem, read_summary, write_info
from tests.support.invalid_records import check_invalid


def test_the_info_file_has_these_lines(tmp_path: Path) -> None:
    path = tmp_path / "inputs.info"
    assert write_info(path, [("./prep/a.bin", 224, 224), ("./prep/b.bin", 640, 512)]) == 2
    assert path.read_bytes() == b"0 ./prep/a.bin 224 224\n1 ./prep/b.bin 640 512\n"


@pytest.mark.parametrize("file", ["my prep/a.bin", "a\tb.bin", "a.bin\n"])
def test_white_space_in_an_info_file_is_rejected(file: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError) as caught:
        write_info(tmp_path / "inputs.info", [(file, 1, 1)])
    assert (caught.value.where, caught.value.what) == (file, "white space in a path of an info file")
    assert not (tmp_path / "inputs.info").exists()


def sample(infiles: list[str], *outfiles: str) -> dict[str, list[str]]:
    return {"infiles": infiles, "outfiles": list(outfiles)}


def test_a_summary_of_ais_bench_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x_summary.json"
    first = sample(["prep/img2.bin"], "out/x/img2_0.bin", "out/x/img2_1.bin")
    files = {"0": first, "1": sample(["/p/b.c.npy"], "b_0.bin")}
    summary = {"filesinfo": files, "NPU_compute_time": {"mean": 8.0}, "throughput": 2000.0, "pid": 1}
    path.write_text(json.dumps(summary))
    assert read_summary(path) == summary
    assert outputs_by_stem(summary, path) == {"img2": ["img2_0.bin", "img2_1.bin"], "b": ["b_0.bin"]}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (None, "no summary of ais_bench"),
        ("{", "not JSON"),
        ("null", "no filesinfo, NPU_compute_time, throughput"),
        ('{"filesinfo": {}, "throughput": 1}', "no NPU_compute_time"),
    ],
)
def test_invalid_summaries_are_rejected(text: Optional[str], part: str, tmp_path: Path) -> None:
    path = tmp_path / "x_summary.json"
    if text is not None:
        path.write_text(text)
    check_invalid(read_summary, path, part)


@pytest.mark.parametrize(
    "samples",
    [
        [sample(["a.bin", "b.bin"], "a_0.bin")],
        [sample(["a.bin"])],
        [{}],
        [sample(["a.bin"], "a_0.bin"), sample(["d/a.bin"], "a_0.bin")],
    ],
)
def test_invalid_samples_are_rejected(samples: list[dict[str, list[str]]]) -> None:
    summary = {"filesinfo": {str(i): each for i, each in enumerate(samples)}}
    with pytest.raises(FormatError) as caught:
        outputs_by_stem(summary, "x_summary.json")
    assert caught.value.where == "x_summary.json"
    assert caught.value.found == (samples[0] if len(samples) == 1 else None)
