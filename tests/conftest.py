"""Fixtures that tests in several directories use, and the settings of hypothesis."""

from __future__ import annotations

import fcntl
import gc
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import settings

from tests.support.demo_chain import DemoChain, run_chain

T = TypeVar("T")

settings.register_profile("all", deadline=None)  # deadlines would fail on a busy machine
settings.register_profile("quick", settings.get_profile("all"), max_examples=25)

os.environ.pop("MAKELEVEL", None)  # set by `make test`; with it the stages print hints as if make had called them
os.environ["OMP_NUM_THREADS"] = "1"  # the networks are tiny, and pytest-xdist uses all cores already
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # many tests start processes: each would compile all modules again
sys.dont_write_bytecode = False

# Each call of make starts python3, which with pyenv is a shell script that takes longer than the python itself.
if _python3 := shutil.which("python3"):
    _asked = [_python3, "-S", "-c", "import sys; print(sys.executable)"]
    _interpreter = subprocess.check_output(_asked, text=True).strip()
    if _interpreter not in ("", _python3):
        os.environ["PATH"] = f"{Path(_interpreter).parent}:{os.environ['PATH']}"


def pytest_configure(config: pytest.Config) -> None:
    """`make test` tries fewer examples than `make test SLOW=1`, except where a test gives their number itself."""
    if not config.getoption("--hypothesis-profile"):
        settings.load_profile("quick" if "not slow" in config.option.markexpr else "all")


def pytest_collection_finish() -> None:
    """Exclude modules and collected tests from garbage collections: each of the many collections would take 0.5 s."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Reset torch's number of threads, which some stages set: later tests in this process would be slower."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


@pytest.fixture
def emulators_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the emulators in the process of the test: their own process takes longer to start than to work."""
    from tests.support import in_process

    in_process.run_emulators(monkeypatch)


def built_once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], T]) -> T:
    """The result of `build(folder)`. One process of pytest-xdist calls it; the others wait and unpickle the result."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return build(factory.mktemp(name) / name)
    record = factory.getbasetemp().parent / f"{name}.pickle"
    with record.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not record.exists():
            record.write_bytes(pickle.dumps(build(factory.mktemp(name) / name)))
    content: T = pickle.loads(record.read_bytes())
    return content


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set of handwritten digits. Tests that change it copy it first."""

    def write(folder: Path) -> Path:
        pytest.importorskip("sklearn.datasets")
        from data import digits

        assert digits.main(["--output", str(folder)]) == 0
        return folder

    return built_once(tmp_path_factory, "digits", write)


@pytest.fixture(scope="session")
def evaluated_demo(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> DemoChain:
    """The demo's chain, run once. Tests that only read its model.onnx use it, others `demo`."""
    return built_once(tmp_path_factory, "evaluated", lambda folder: run_chain(folder, digits))


@pytest.fixture(scope="module")
def demo(evaluated_demo: DemoChain, tmp_path_factory: pytest.TempPathFactory) -> DemoChain:
    """A copy of `evaluated_demo` that the tests of a module share: each test finds the changes of earlier tests."""
    return evaluated_demo.copy(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="session")
def torchscript_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with tiny.yaml, tiny.pth and model.ts; tiny_pose.yaml, tiny_pose.pth and pose.ts. Tests only read them."""

    def export(folder: Path) -> Path:
        from pth2onnx import torchscript
        from tests.support import tiny

        folder.mkdir()
        for cfg, write, output in (
            ("tiny", tiny.write_weights, "model.ts"),
            ("tiny_pose", tiny.write_pose_weights, "pose.ts"),
        ):
            files = ["--weights", str(write(folder)), "--output", str(folder / output)]
            assert torchscript.main(["--cfg", str(folder / f"{cfg}.yaml"), *files]) == 0
        return folder

    return built_once(tmp_path_factory, "torchscript", export)
