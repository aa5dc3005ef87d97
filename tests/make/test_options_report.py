"""make/options.py for make report: BASE and MODELS, what is remembered, rejected and ignored."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.make.option_calls import rejected, resolve


@pytest.fixture(autouse=True)
def base(checkout: Path) -> Path:
    (checkout / "old.json").write_text('{\n "kind": "metrics",\n')
    return checkout


def test_base_is_never_remembered() -> None:
    resolve("report", BASE="old.json", BATCH="2")
    assert [path.name for path in Path("build/net/settings").iterdir()] == ["BATCH.mk"]


def test_models_are_separated_by_commas_and_not_remembered() -> None:
    assert resolve("report", MODELS="net  wide")["MODELS"] == "net,wide"
    assert not Path("build/net/settings/MODELS.mk").exists()


def test_what_make_report_rejects() -> None:
    line = rejected("report", BASE="older.json")
    assert "BASE=older.json" in line and "no such metrics record" in line
    Path("other.json").write_text("{}")
    assert "BASE=other.json: not a metrics record; give a record of make eval" in rejected("report", BASE="other.json")
    assert "BASE=a b.json" in rejected("report", BASE="a b.json")
    assert "MODELS=net;x" in rejected("report", MODELS="net;x")


@pytest.mark.parametrize(("goals", "given"), [("eval", {}), ("report", {"MODELS": "net"})])
def test_base_without_effect(goals: str, given: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    resolve(goals, BASE="old.json", **given)
    assert "BASE=old.json is ignored" in capsys.readouterr().err
