"""atc.atc_rules compared with the fake atc, which was written from ATC's sources and not from ours: both accept the
same arguments and reject all others with the same error code, except those in OTHER_CODES."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atc import atc_rules, convert
from atc.atc_rules import AtcError
from tests.atc.calls import arguments, seen_by_atc
from tests.atc.rule_calls import BASE, DIMS, REJECTIONS
from tests.support import fakes
from tests.support.atc_arguments import HIGHER_HRNET_GEARS
from tests.support.fakes import fake_atc_rules
from tests.support.onnx_models import classifier, saved

OF_THE_MODEL = ("E10016", "E10049")  # names and ranks, which the fake checks in the ONNX file
OTHER_CODES = {  # both reject these, with different codes
    *("--framework=3", "--enable_small_channel=2", "--log=fatal", "--input_shape=image:,3,224,224"),
    *("--input_shape=image:1~x,3,224,224", "--input_shape=image:"),
}
NOT_IMITATED = ("--mode", "--enable_single_stream", "--out_nodes")
SIZE = st.sampled_from(["-1", "1", "3", "224"])
SHAPE = st.lists(SIZE, min_size=1, max_size=5).map(lambda sizes: "image:" + ",".join(sizes))
GEAR = st.lists(st.sampled_from(["1", "2", "32", "0", " 4", "x", ""]), min_size=1, max_size=3).map(",".join)
GEARS = st.lists(GEAR, min_size=1, max_size=4).map(";".join)
FLAG = st.sampled_from(["dynamic_batch_size", "dynamic_image_size", "dynamic_dims"])


@pytest.fixture(autouse=True, scope="module")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The current directory, with the files that the arguments name."""
    folder = tmp_path_factory.mktemp("rules")
    for name in ("m.onnx", "aipp.cfg", "list.json"):
        (folder / name).touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


def codes(given: dict[str, str]) -> tuple[str, str]:
    """The error codes of our rules and of the fake; an empty text if they accept the arguments."""
    words = [f"--{name}={value}" for name, value in given.items()]
    found = []
    for read, check, error in (
        (atc_rules.parse, atc_rules.check_arguments, AtcError),
        (fake_atc_rules.read_flags, fake_atc_rules.check_flags, fake_atc_rules.Rejected),
    ):
        try:
            check(read(words))
        except error as rejected:
            found.append(rejected.code)
        else:
            found.append("")
    return found[0], found[1]


OF_BOTH = [
    lines
    for lines in REJECTIONS
    if not lines[-1].startswith(OF_THE_MODEL) and not any(line.startswith(NOT_IMITATED) for line in lines)
]


@pytest.mark.parametrize("lines", OF_BOTH, ids=lambda lines: " ".join(lines[:-1]))
def test_both_reject_with_the_same_code(lines: list[str]) -> None:
    changes = dict(line[2:].split("=", 1) for line in lines[:-1])
    ours, theirs = codes({**BASE, **changes})
    assert ours and theirs and (ours == theirs or lines[0] in OTHER_CODES)


@pytest.mark.parametrize(
    "changes",
    [
        {"input_shape": "image:-1,3,224,224"},
        {"input_shape": "image:1~8,3,224,224"},
        {"precision_mode_v2": "mixed_float16", "modify_mixlist": "list.json"},
        {"output_type": "Conv_770:0:FP16;Conv_795:0:FP32"},
        {"insert_op_conf": "aipp.cfg"},
        {"input_format": "ND", "input_shape": "image:1,3,-1,-1", "dynamic_dims": f"{HIGHER_HRNET_GEARS};"},
        {"input_shape": "image:-1,3,224,224", "dynamic_batch_size": "1, 8,"},
        {"input_shape": "image:1,3,-1,-1", "dynamic_image_size": "32,64;64, 32;"},
    ],
)
def test_both_accept_the_same_arguments(changes: dict[str, str]) -> None:
    assert codes({**BASE, **changes}) == ("", "")


@pytest.mark.parametrize(("chip", "most"), [("Ascend310P3", 100), ("Ascend950PR_9589", 256)])
def test_both_accept_the_same_number_of_gears(chip: str, most: int) -> None:
    for count in (2, most, most + 1):
        dims = ";".join(f"{32 * (n + 1)},512" for n in range(count))
        given = {**BASE, **DIMS, "soc_version": chip, "dynamic_dims": dims}
        assert codes(given) == (("", "") if count <= most else ("E10036", "E10036"))


@given(shape=SHAPE, flag=FLAG, gears=GEARS, layout=st.sampled_from(["ND", "NCHW"]))
def test_both_read_any_shape_and_gears_alike(shape: str, flag: str, gears: str, layout: str) -> None:
    text = gears.replace(";", ",") if flag == "dynamic_batch_size" else gears
    ours, theirs = codes({**BASE, "input_shape": shape, "input_format": layout, flag: text})
    assert bool(ours) == bool(theirs)


@given(flag=FLAG, sizes=st.lists(st.integers(0, 9), min_size=1, max_size=4), twice=st.booleans())
def test_both_reject_gears_with_the_same_code(flag: str, sizes: list[int], twice: bool) -> None:
    shape, form, separator = {
        "dynamic_batch_size": ("-1,3,224,224", "{}", ","),
        "dynamic_image_size": ("1,3,-1,-1", "{},8", ";"),
        "dynamic_dims": ("1,3,-1,-1", "{},8", ";"),
    }[flag]
    gears = separator.join(form.format(size) for size in (sizes * 2 if twice else sizes))
    ours, theirs = codes({**BASE, "input_format": "ND", "input_shape": f"image:{shape}", flag: gears})
    assert ours == theirs


def test_the_emulator_knows_only_flags_that_atc_has() -> None:
    assert set(atc_rules.PARAMETERS) <= fake_atc_rules.FLAGS


@pytest.mark.usefixtures("here", "atc")
def test_a_list_of_operators_needs_a_mixed_precision(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "list.json").write_text("{}")
    flags = "--modify_mixlist=list.json"
    assert convert.main(arguments("a.om", "--batch_size", "1", f"--atc_flags={flags}")) == 1
    assert "precision_mode" in capsys.readouterr().out
    mixed = f"{flags} --precision_mode=allow_mix_precision"
    assert convert.main(arguments("a.om", "--batch_size", "1", f"--atc_flags={mixed}")) == 0
    assert seen_by_atc("a.om")["modify_mixlist_content"] == "{}"


@pytest.mark.usefixtures("atc")
def test_errors_of_an_older_atc_have_the_same_hint(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`Value [x] for parameter [y] is invalid`, without the number of the process."""
    monkeypatch.setenv("FAKE_ATC", "old")
    assert convert.main(arguments("a.om", "--soc_version", "Ascend310P33")) == 1
    out, err = capsys.readouterr()
    assert "E10001: Value [Ascend310P33] for parameter [soc_version] is invalid." in out
    assert "SOC=Ascend310P3?" in err and err.count("\n") == 1


@pytest.mark.parametrize("name", ["my project", "c++"])
def test_a_directory_with_an_illegal_character_is_rejected(
    name: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is rejected before atc runs, as in infer.run for ais_bench."""
    folder = tmp_path_factory.mktemp("bin")
    fakes.atc(folder)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    saved(tmp_path / name, classifier())
    assert convert.main(arguments("a.om", "--batch_size", "1")) == 2
