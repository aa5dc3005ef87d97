"""atc/convert.py: a rerun compiles again only after a relevant change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from atc import atc_rules, convert
from hrnet.io import stamp
from tests.atc.calls import arguments, product
from tests.support import fakes, tiny
from tests.support.onnx_models import classifier, pyramid, saved

pytestmark = pytest.mark.usefixtures("emulators_in_process")


class Rerun:
    """Runs atc.convert for one output; true if the stage did its work again."""

    def __init__(self, output: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.output, self.capsys = output, capsys

    def __call__(self, *more: str) -> bool:
        for path in map(Path, product(self.output)[1:]):
            if path.exists():
                os.utime(path, (0, 0))
        assert convert.main(arguments(self.output, *more)) == 0
        assert min(Path(path).stat().st_mtime for path in product(self.output)[1:]) > 0, "make sees new files"
        return atc_rules.START in self.capsys.readouterr().out


def test_a_rerun_compiles_only_after_a_relevant_change(
    here: Path, cfg: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rerun = Rerun("a.onnx", capsys)
    assert rerun()
    before = Path("a.onnx").read_bytes()
    assert not rerun() and not rerun("--backend", "openvino"), "compiled by the same tool"
    assert rerun("--cfg", cfg) and not rerun("--cfg", cfg), "with --cfg, the stamp contains its image size"
    for more in (["--batch_size", "2"], ["--precision", "fp16"], ["--soc_version", "Ascend310"], ["--log", "info"]):
        assert rerun(*more) and not rerun(*more)
    assert rerun() and Path("a.onnx").read_bytes() == before, "a second run gives the same bytes"
    Path("a.onnx").write_bytes(b"damaged")
    assert rerun()
    Path("a.onnx.json").unlink()
    assert rerun()
    saved(here, classifier(name="other"))
    assert rerun() and not rerun()
    monkeypatch.setattr(stamp, "code_sha256", lambda *modules: str(modules))
    assert rerun() and not rerun()


def test_a_rerun_with_uint8_depends_on_the_config(here: Path, cfg: str, capsys: pytest.CaptureFixture[str]) -> None:
    rerun, aipp = Rerun("a.onnx", capsys), Path("a.aipp.cfg")
    flags = ["--cfg", cfg, "--input_dtype", "uint8"]
    assert rerun(*flags)
    text = aipp.read_text()
    aipp.unlink()
    Path(cfg).write_text(f"{Path(cfg).read_text()}TRAIN: {{LR: 2}}\n")
    assert not rerun(*flags) and aipp.read_text() == text
    Path(cfg).write_text(Path(cfg).read_text().replace("MEAN: [0.5,", "MEAN: [0.25,"))
    assert rerun(*flags) and aipp.read_text() != text
    cfg = str(tiny.write_pose_config(here))
    saved(here, pyramid(2))
    rerun, flags = Rerun("p.onnx", capsys), ["--cfg", cfg, "--input_dtype", "uint8", "--batch_size", "1"]
    assert rerun(*flags)
    before = Path("p.pixels.onnx").read_bytes()
    Path("p.pixels.onnx").unlink()
    assert not rerun(*flags) and Path("p.pixels.onnx").read_bytes() == before
    Path(cfg).write_text(Path(cfg).read_text().replace("[64, 128]", "[64, 160]"))
    assert rerun(*flags) and not rerun(*flags)


def test_another_atc_on_path_compiles_again(
    here: Path, atc: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """This includes a link `latest` that is changed to another version."""
    rerun = Rerun("a.om", capsys)
    assert rerun() and not rerun()
    folders = [tmp_path_factory.mktemp(version) for version in ("cann6", "cann7")]
    atc.setenv("PATH", f"{here / 'latest'}{os.pathsep}{os.environ['PATH']}")
    for folder in folders:
        fakes.atc(folder)
        (here / "latest").unlink(missing_ok=True)
        (here / "latest").symlink_to(folder)
        assert rerun() and not rerun()
