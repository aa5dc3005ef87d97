"""hrnet/io/stamp.py: a product is current only if settings, input files, code and the product itself are equal."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from hrnet.io import stamp
from hrnet.io.stamp import Stamp, is_current, stamp_path, touch, write_stamp


@pytest.fixture
def product(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(stamp, "code_sha256", lambda *modules: f"code of {modules}")
    (tmp_path / "weights").write_text("weights")
    path = tmp_path / "model"
    path.write_text("model")
    write_stamp(path, made(path), [path])
    return path


def made(path: Path, modules: tuple[str, ...] = ("a",), **settings: Any) -> Stamp:
    return Stamp.compute(modules, {"batch": 1, **settings}, {"weights": path.parent / "weights"})


def test_a_product_is_current_until_something_changes(product: Path) -> None:
    assert is_current(product, made(product), [product])
    assert not is_current(product, made(product, batch=2), [product])
    assert not is_current(product, made(product, more=None), [product])
    assert not is_current(product, made(product, ("a", "b")), [product])
    product.write_text("damaged")
    assert not is_current(product, made(product), [product])
    product.unlink()
    assert not is_current(product, made(product), [product])


def test_a_changed_input_file_is_noticed(product: Path) -> None:
    (product.parent / "weights").write_text("others")
    assert not is_current(product, made(product), [product])


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"kind": "stamp"}', '{"kind": "manifest"}'])
def test_a_missing_or_foreign_stamp_is_not_current(product: Path, content: str) -> None:
    stamp_path(product).unlink()
    if content is not None:
        stamp_path(product).write_text(content)
    assert not is_current(product, made(product), [product])


def test_the_state_of_tensors_changes_with_each_of_them(tmp_path: Path) -> None:
    """A file that is written again is another one, even if its size is equal."""
    states = {stamp.tensors_state(tmp_path / "absent"), stamp.tensors_state(tmp_path)}
    assert len(states) == 2
    first, second = tmp_path / "a.bin", tmp_path / "b.npy"
    for change in (
        lambda: first.write_bytes(b"1234"),
        lambda: second.write_bytes(b"1234"),
        lambda: os.utime(first, ns=(0, first.stat().st_mtime_ns + 1)),
        lambda: first.rename(tmp_path / "c.bin"),
        lambda: os.truncate(second, 3),
        lambda: second.unlink(),
    ):
        change()
        assert stamp.tensors_state(tmp_path) == stamp.tensors_state(str(tmp_path))
        states.add(stamp.tensors_state(tmp_path))
    assert len(states) == 8
    (tmp_path / "manifest.json").write_text("touched when a stage is up to date")
    assert stamp.tensors_state(tmp_path) in states


def test_touch_keeps_the_bytes_and_names_what_to_remove(product: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = product.stat()
    touch(product, [product])
    assert product.stat().st_mtime_ns > before.st_mtime_ns and product.read_text() == "model"
    assert f"rm {product}" in capsys.readouterr().out


def test_the_stamp_can_be_read_by_people(product: Path) -> None:
    content = json.loads(stamp_path(product).read_text())
    assert content["kind"] == "stamp" and content["settings"] == {"batch": 1}
    assert set(content["files"]) == {"weights"} and set(content["products"]) == {"model"}
