"""A full disk, a read-only folder: one clear line, nothing half-written under its name, and a rerun that finishes."""

from __future__ import annotations

import re
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hardening import stages
from tests.hardening.harness import Stage, below, contents

pytestmark = pytest.mark.slow

# What the tool of a stage meets it tells itself, with its own exit code; the stage points at it.
OF_A_TOOL = re.compile(r"(atc\.convert|infer\.run): failed: .*exited with \d+, see above")
TOO_LITTLE = "too little free disk (expected "


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Path]:
    """A small disk, empty, to be mounted anew by `limit`."""
    place = tmp_path / "place"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", place], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def limit(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", place], check=True)


def standing(stage: Stage, built: Path, root: Path, place: Path) -> tuple[Path, dict[str, bytes]]:
    """A folder for the stage, whose products go to the disk `place`; and what an undisturbed run leaves."""
    finished = stages.inputs_of(stage, built, root / "finished")
    code, told = stage.run(finished)
    assert code == 0, told
    folder = stages.inputs_of(stage, built, root / "inputs")
    (product,) = stage.products
    (folder / product).parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "--bind", place, _empty(folder / product)], check=True)
    return folder, contents(finished, stage)


def _empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.fixture
def bound(mount: Path, tmp_path: Path) -> Iterator[Path]:
    """The disk; what was mounted over a stage's products is gone afterwards."""
    yield mount
    for line in Path("/proc/mounts").read_text().splitlines():
        place = line.split()[1]
        if place.startswith(f"{tmp_path}/inputs"):
            subprocess.run(["umount", "-l", place], check=True)


def check_refused(stage: Stage, folder: Path, expected: dict[str, bytes], code: int, told: str, reasons: str) -> None:
    """One line with a reason, and nothing that is not whole."""
    assert "Traceback" not in told, told
    *before, last = told.splitlines()
    if OF_A_TOOL.match(last):
        assert code == 1 and re.search(reasons, "\n".join(before)), told
    else:
        assert code == 2 and last.startswith(f"{stage.module}: error: ") and re.search(reasons, last), told
    for name, data in contents(folder, stage).items():
        if not name.endswith(("_lock", "_settings.json")):
            assert expected.get(name) == data, name


@pytest.mark.parametrize("fraction", [0.02, 0.5, 0.9])
@pytest.mark.parametrize("stage", stages.CHAIN, ids=lambda stage: stage.module)
def test_a_disk_of_too_few_bytes(stage: Stage, fraction: float, built: Path, tmp_path: Path, bound: Path) -> None:
    folder, expected = standing(stage, built, tmp_path, bound)
    blocks = sum(-(-len(data) // 4096) for data in expected.values())
    limit(bound, f"size={max(1, int(blocks * fraction)) * 4}k")
    code, told = stage.run(folder)
    check_refused(stage, folder, expected, code, told, f"No space left on device|{re.escape(TOO_LITTLE)}")
    limit(bound, "size=64m")
    code, told = stage.run(folder)
    assert code == 0, told
    assert contents(folder, stage) == expected


@pytest.mark.parametrize("fraction", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("stage", stages.CHAIN, ids=lambda stage: stage.module)
def test_a_disk_of_too_few_files(stage: Stage, fraction: float, built: Path, tmp_path: Path, bound: Path) -> None:
    """Bytes are free, so that no look at the disk before the work helps: it is full in the middle of it."""
    folder, expected = standing(stage, built, tmp_path, bound)
    folders = {path.parent for path in below(tmp_path / "finished", stage.products)}
    limit(bound, f"size=64m,nr_inodes={len(folders) + int(fraction * (len(expected) - 1)) + 1}")
    code, told = stage.run(folder)
    check_refused(stage, folder, expected, code, told, "No space left on device")
    limit(bound, "nr_inodes=10k")
    code, told = stage.run(folder)
    assert code == 0, told
    assert contents(folder, stage) == expected


@pytest.mark.parametrize("stage", stages.CHAIN, ids=lambda stage: stage.module)
def test_a_file_that_may_not_grow(stage: Stage, built: Path, tmp_path: Path) -> None:
    """`ulimit -f` stands for the full disk where nothing can be mounted: a write fails after its first bytes."""
    finished = stages.inputs_of(stage, built, tmp_path / "finished")
    code, told = stage.run(finished)
    assert code == 0, told
    expected = contents(finished, stage)
    bytes_of_all = [len(data) for data in expected.values()]
    most = max(bytes_of_all) // 2
    folder = stages.inputs_of(stage, built, tmp_path / "inputs")
    code, told = stage.run(folder, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)))
    check_refused(stage, folder, expected, code, told, "File too large|cannot be written")
    code, told = stage.run(folder)
    assert code == 0, told
    assert contents(folder, stage) == expected


@pytest.mark.parametrize("stage", stages.CHAIN, ids=lambda stage: stage.module)
def test_a_read_only_folder(stage: Stage, built: Path, tmp_path: Path, bound: Path) -> None:
    folder, expected = standing(stage, built, tmp_path, bound)
    limit(bound, "ro,size=64m")
    code, told = stage.run(folder)
    assert code == 2 and told.count("\n") == 1, told
    assert told.startswith(f"{stage.module}: error: {stage.products[0]}"), told
    assert told.endswith(": Read-only file system\n")
    limit(bound, "rw")
    code, told = stage.run(folder)
    assert code == 0, told
    assert contents(folder, stage) == expected


def test_inputs_on_a_read_only_disk(built: Path, tmp_path: Path, bound: Path) -> None:
    """Hard links cannot cross disks: what is left of a killed run is copied then."""
    stage = stages.INFER
    folder = stages.inputs_of(stage, built, tmp_path / "inputs")
    limit(bound, "size=64m")
    subprocess.run(["cp", "-a", f"{folder / stages.PREP}/.", bound], check=True)
    limit(bound, "ro")
    subprocess.run(["mount", "--bind", bound, folder / stages.PREP], check=True)
    code, told = stage.run(folder)
    assert code == 0, told
    expected = contents(folder, stage)
    (folder / stages.RUN).unlink()
    for path in sorted((folder / stages.OUT / "bs4").iterdir())[:10]:
        path.unlink()
    code, told = stage.run(folder)
    assert code == 0 and f"{stages.IMAGES - 10} of {stages.IMAGES} inputs were finished before" in told, told
    assert contents(folder, stage) == expected
    assert not list(Path(folder, stages.OUT).glob("*_chunk"))
