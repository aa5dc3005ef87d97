"""A full disk, a read-only directory: one clear line, no partial file, and a rerun that finishes."""

from __future__ import annotations

import re
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hrnet.io.stamp import stamp_path
from tests.hardening import stages
from tests.hardening.harness import Stage, below, contents

pytestmark = pytest.mark.slow

# The tool of a stage reports its own errors; the stage's line refers to them.
OF_A_TOOL = re.compile(r"(atc\.convert|amct\.quantize|infer\.run|make\.shards): (error|failed): .* failed, see above")
TOO_LITTLE = "too little free disk space (expected "


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Path]:
    """A small empty disk; `limit` changes its size."""
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", disk], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def limit(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", disk], check=True)


def prepare(stage: Stage, built: Path, root: Path, disk: Path) -> tuple[Path, dict[str, bytes]]:
    """A directory for the stage, with `disk` mounted for its products; and the products of an undisturbed run."""
    finished = stages.finished(stage, built, root)
    folder = stages.inputs_of(stage, built, root / "inputs")
    (product,) = stage.products
    (folder / product).parent.mkdir(parents=True, exist_ok=True)
    (folder / product).mkdir()
    subprocess.run(["mount", "--bind", disk, folder / product], check=True)
    return folder, contents(finished, stage)


@pytest.fixture
def bound(mount: Path, tmp_path: Path) -> Iterator[Path]:
    """The disk; unmounted from the stage's products afterwards."""
    yield mount
    for line in Path("/proc/mounts").read_text().splitlines():
        disk = line.split()[1]
        if disk.startswith(f"{tmp_path}/inputs"):
            subprocess.run(["umount", "-l", disk], check=True)


def check_rejected(
    stage: Stage, folder: Path, expected: dict[str, bytes], code: int, output: str, reasons: str
) -> None:
    """One line with a reason, and only whole files."""
    assert "Traceback" not in output, output
    *before, last = output.splitlines()
    if OF_A_TOOL.match(last):
        assert code == (2 if ": error: " in last else 1) and re.search(reasons, "\n".join(before)), output
    else:
        assert code == 2 and last.startswith(f"{stage.module}: error: ") and re.search(reasons, last), output
    for name, data in contents(folder, stage).items():
        inside = re.search(r"-of-[0-9]+/", name)  # inputs and outputs of a part, which a rerun uses
        if not inside and not name.endswith(("_lock", "_settings.json", ".stamp")):
            assert expected.get(name) == data, name


@pytest.mark.parametrize("fraction", [0.02, 0.5, 0.9])
@pytest.mark.parametrize("stage", (*stages.CHAIN, *stages.INT8), ids=stages.name)
def test_too_few_free_bytes_are_reported_in_one_line_and_a_rerun_finishes(
    stage: Stage, fraction: float, built: Path, tmp_path: Path, bound: Path
) -> None:
    folder, expected = prepare(stage, built, tmp_path, bound)
    blocks = sum(-(-len(data) // 4096) for data in expected.values())
    limit(bound, f"size={max(1, int(blocks * fraction)) * 4}k")
    code, output = stage.run(folder)
    check_rejected(stage, folder, expected, code, output, f"No space left on device|{re.escape(TOO_LITTLE)}")
    limit(bound, "size=64m")
    stage.finish(folder)
    assert contents(folder, stage) == expected


@pytest.mark.parametrize("fraction", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("stage", (*stages.CHAIN, *stages.INT8), ids=stages.name)
def test_too_few_free_inodes_are_reported_in_one_line_and_a_rerun_finishes(
    stage: Stage, fraction: float, built: Path, tmp_path: Path, bound: Path
) -> None:
    """Bytes are free, but inodes are not, so the check before the work passes, and the disk is full in the middle of
    it."""
    folder, expected = prepare(stage, built, tmp_path, bound)
    folders = {path.parent for path in below(tmp_path / "finished", stage.products)}
    spare = 1 if len(expected) > 1 else 0  # 0: a stage that writes only one file has no room even for that one
    limit(bound, f"size=64m,nr_inodes={len(folders) + int(fraction * (len(expected) - 1)) + spare}")
    code, output = stage.run(folder)
    check_rejected(stage, folder, expected, code, output, "No space left on device")
    limit(bound, "nr_inodes=10k")
    stage.finish(folder)
    assert contents(folder, stage) == expected


@pytest.mark.parametrize("stage", (*stages.CHAIN, *stages.INT8), ids=stages.name)
def test_a_write_that_fails_half_way_is_reported_in_one_line(stage: Stage, built: Path, tmp_path: Path) -> None:
    """`ulimit -f` instead of a full disk, which not every machine can mount: a write fails after its first bytes."""
    expected = contents(stages.finished(stage, built, tmp_path), stage)
    most = max(map(len, expected.values())) // 2
    folder = stages.inputs_of(stage, built, tmp_path / "inputs")
    code, output = stage.run(folder, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)))
    check_rejected(stage, folder, expected, code, output, "File too large|cannot be written")
    stage.finish(folder)
    assert contents(folder, stage) == expected


@pytest.mark.parametrize("stage", (*stages.CHAIN, *stages.INT8), ids=stages.name)
def test_a_read_only_directory_is_reported_in_one_line(stage: Stage, built: Path, tmp_path: Path, bound: Path) -> None:
    folder, expected = prepare(stage, built, tmp_path, bound)
    limit(bound, "ro,size=64m")
    code, output = stage.run(folder)
    assert code == 2 and output.count("\n") == 1, output
    assert output.startswith(f"{stage.module}: error: {stage.products[0]}"), output
    assert output.endswith(": Read-only file system\n")
    limit(bound, "rw")
    stage.finish(folder)
    assert contents(folder, stage) == expected


def test_inputs_on_a_read_only_disk_are_inferred(built: Path, tmp_path: Path, bound: Path) -> None:
    """Hard links cannot cross disks: the remaining inputs of a killed run are copied then."""
    stage = stages.INFER
    folder = stages.inputs_of(stage, built, tmp_path / "inputs")
    limit(bound, "size=64m")
    subprocess.run(["cp", "-a", f"{folder / stages.PREP}/.", bound], check=True)
    limit(bound, "ro")
    subprocess.run(["mount", "--bind", bound, folder / stages.PREP], check=True)
    stage.finish(folder)
    expected = contents(folder, stage)
    (folder / stages.RUN).unlink()
    stamp_path(folder / stages.OUT / "bs4").unlink()
    for path in sorted((folder / stages.OUT / "bs4").iterdir())[:10]:
        path.unlink()
    assert f"{stages.IMAGES - 10} of {stages.IMAGES} inputs were finished before" in stage.finish(folder)
    assert contents(folder, stage) == expected
    assert not list(Path(folder, stages.OUT).glob("*_chunk"))
