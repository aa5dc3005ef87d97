"""`python -m serve.run` as a process: rejections, the address, SIGTERM and kill -9 under load, several devices."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import urllib.request
from pathlib import Path

import pytest

from hrnet.cli import UserError
from hrnet.config import load_config
from serve import listen, run
from serve.classification import Classifier
from tests.serve.chain import VERDICT, command, serving
from tests.serve.load import Load
from tests.support.errors import check_error
from tests.support.processes import SECONDS


@pytest.fixture
def work(chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(chain, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def rejected(capsys: pytest.CaptureFixture[str], code: int, *parts: str, **given: object) -> None:
    words = command(**given)[2:]  # type: ignore[arg-type]
    assert run.main([*words, *(("--port", "0"))]) == code
    check_error(capsys.readouterr().err, "serve.run", *parts)


def test_models_that_are_not_served(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rejected(capsys, 2, "eval/none.json", "not evaluated", "GATE=none", metrics="eval/none.json")
    for ending in ("", ".json"):
        shutil.copy(f"om/bs4.onnx{ending}", f"om/again.onnx{ending}")
    rejected(capsys, 2, "again.onnx", "two models of batch size 4", models=("om/bs4.onnx", "om/again.onnx"))
    record = json.loads(Path(VERDICT).read_text())
    Path(VERDICT).write_text(json.dumps({**record, "verdict": "fail"}))
    rejected(capsys, 1, VERDICT, "failed its gate")
    Path("small.yaml").write_text(Path("small.yaml").read_text().replace("RESIZE: 40", "RESIZE: 48"))
    rejected(capsys, 2, "om/bs1.onnx", "another config", "found small with other values", "restore small.yaml")


def test_an_address_that_is_in_use_or_unknown(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert run.main([*command()[2:], "--port", str(port)]) == 2
    check_error(capsys.readouterr().err, "serve.run", f"PORT={port}", f"PORT={port + 1}")
    assert run.main([*command()[2:], "--host", "256.1.1.1"]) == 2
    check_error(capsys.readouterr().err, "serve.run", "HOST=256.1.1.1", "no such address", "HOST=127.0.0.1")


def test_the_hint_for_the_highest_port_is_the_port_below(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setattr(listen, "MAX_PORT", port)
        with pytest.raises(UserError) as caught:
            listen.bind("127.0.0.1", port)
    assert caught.value.hint == f"give PORT={port - 1}, or stop the other server"


def test_class_directories_name_the_classes(work: Path) -> None:
    """If the config has no names, the class directories of the data set in --labelled give them. The name of a class
    without images contains its index."""
    Path("small.yaml").write_text(Path("small.yaml").read_text().replace(", CLASS_NAMES: names.txt", ""))
    manifest = json.loads(Path("in/manifest.json").read_text())
    for image in manifest["images"]:
        image["source"] = f"val/{'xyz'[image['label']]}/{image['source']}"
    Path("prep/set").mkdir(parents=True)
    Path("prep/set/manifest.json").write_text(json.dumps(manifest))
    for given, expected in (
        (("--labelled", "prep/set"), ["x", "y", "z", *(f"class {i}" for i in range(3, 10))]),
        ((), []),
    ):
        args = run.parse_args([*command()[2:], *given])
        config = load_config(args.cfg)
        served = run.make_served(args, config, run.read_models(args.models, args.cfg, config))
        assert isinstance(served, Classifier) and served.names == expected


def test_a_model_without_a_verdict_is_served_with_a_notice(work: Path) -> None:
    with serving(work, command("--allow_unjudged", metrics="eval/unjudged.json")) as running:
        assert "NOT JUDGED: no verdict: no reference is known" in running.lines[-1]
        assert running.url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(running.url) as response:
            assert '"verdict": "NOT JUDGED: no verdict' in response.read().decode()


def test_sigterm_under_load_loses_no_accepted_request(work: Path) -> None:
    with serving(work, command()) as running:
        load = Load(running, 6)
        load.wait_for(20)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(SECONDS) == 0
        load.join()
        assert load.broken == 0 and load.answered >= 20


def test_after_kill_9_under_load_the_same_port_is_served_again(work: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in work.rglob("*")}
    with serving(work, command()) as running:
        load = Load(running, 4)
        load.wait_for(10)
        running.process.kill()
        running.process.wait()
        load.join()
        port = running.url.rpartition(":")[2]
        with serving(work, [*command(), "--port", port]) as again:
            assert again.url == running.url
            load = Load(again, 2)
            load.wait_for(4)
            load.stopped.set()
            load.join()
            assert load.broken == 0
    assert {path: path.stat().st_mtime_ns for path in work.rglob("*")} == before, "a server writes no files"
