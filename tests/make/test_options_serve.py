"""make/options.py for make serve: HOST and PORT, which are never remembered, and the batch sizes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.make.option_calls import rejected, resolve


@pytest.fixture(autouse=True)
def here(checkout: Path) -> Path:
    return checkout


def test_defaults() -> None:
    found = resolve("serve")
    assert (found["HOST"], found["PORT"], found["BATCHES"]) == ("127.0.0.1", "8000", "1,2,4,8,16")


def test_host_and_port_are_never_remembered() -> None:
    assert resolve("serve", HOST="0.0.0.0", PORT="80", BATCH="2")["HOST"] == "0.0.0.0"
    assert [path.name for path in Path("build/net/settings").iterdir()] == ["BATCH.mk"]
    assert resolve("serve")["HOST"] == "127.0.0.1"


def test_other_targets_ignore_them(capsys: pytest.CaptureFixture[str]) -> None:
    resolve("eval", PORT="80")
    assert "PORT=80 is ignored" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({"PORT": "65536"}, ["PORT=65536", "65535"]),
        ({"PORT": "http"}, ["PORT=http: ", "a port number from 0 to 65535"]),
        ({"HOST": "a b"}, ["HOST=a b", "127.0.0.1"]),
        ({"DEVICE": "0,1", "BACKEND": "onnxruntime"}, ["DEVICE=0,1", "one device"]),
    ],
)
def test_what_make_serve_rejects(given: dict[str, str], parts: list[str]) -> None:
    line = rejected("serve", **given)
    assert all(part in line for part in parts), line
