"""One evaluated run: its records below build/<MODEL>/, and the commands that write missing records."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from yacs.config import CfgNode

from hrnet.code import ROOT
from hrnet.config import load_config
from hrnet.io.quantized import OPSETS
from hrnet.io.records import FormatError
from hrnet.schemas import ONNX, POSE
from report.sources import Source, Sources

NOFLIP, HINT = "-noflip", "run make eval"
VERDICTS = ("pass", "fail", "not judged")
KEYS = ("name", "metrics", "interval95", "images", "counts", "gate", "images_sha256", "evaluated", "model", "tool")


@dataclass(frozen=True)
class Run:
    """One run and its main records."""

    build: Path  # build/<MODEL>
    config: CfgNode
    metrics: Source
    predictions: Source
    inputs: Path  # the directory with the manifest
    run_record: Path

    @property
    def pose(self) -> bool:
        return bool(self.config.MODEL.NAME == POSE)

    @property
    def network(self) -> bool:
        """Whether the config has a network of this project; False for a model that is an ONNX file."""
        return bool(self.config.MODEL.NAME != ONNX)

    @property
    def shipped(self) -> bool:
        """Whether the config is in configs/."""
        return (ROOT / "configs" / f"{self.config_name}.yaml").is_file()

    @property
    def int8(self) -> bool:
        """Whether the model can be quantized."""
        return int(self.metrics.content["model"].get("opset", OPSETS[-1])) in OPSETS

    @property
    def config_name(self) -> str:
        """The name of the config, from the metrics record."""
        return str(self.metrics.content["name"])

    @property
    def metric(self) -> str:
        name: str = self.metrics.content["gate"]["metric"]
        return name

    @property
    def path(self) -> Path:
        return Path(self.metrics.path)

    @property
    def set_name(self) -> str:
        """SET: the directory of the metrics, named after data set and input."""
        return self.path.parent.name

    @property
    def tag(self) -> str:
        """TAG: backend, batch and precision; it ends with -noflip for a run without the flip test."""
        return self.path.stem

    @property
    def noflip(self) -> str:
        return NOFLIP if self.tag.endswith(NOFLIP) else ""

    def make(self, target: str, **values: str) -> str:
        """A make command that can be pasted: for MODELS if `values` contains it, otherwise for this model. make
        remembers the values that are not given here."""
        words = ["make", target, *([] if "MODELS" in values else [f"MODEL={self.build.name}"])]
        if str(self.build.parent) != "build":
            words.append(f"BUILD={self.build.parent}")
        return shlex.join([*words, *(f"{name}={value}" for name, value in values.items())])

    def remembered(self) -> dict[str, str]:
        """The values that make remembers for this model."""
        found = {}
        for path in sorted((self.build / "settings").glob("*.mk")):
            match = re.fullmatch(r"([A-Z_]+) \?= (.*)\n", path.read_text(encoding="utf-8", errors="replace"))
            if match:
                found[match[1]] = match[2]
        return found


def read_metrics(sources: Sources, path: Path, hint: str) -> Source:
    """A complete metrics record with a verdict. Raises FormatError."""
    found = sources.record(path, "metrics", hint)
    if found is None:
        raise FormatError("no such metrics record", where=path, hint=hint)
    content: dict[str, Any] = found.content
    missing = [key for key in KEYS if key not in content]
    if missing or content.get("verdict") not in VERDICTS:
        raise FormatError(
            "not a metrics record of make eval", where=path, found=f"no {', '.join(missing) or 'verdict'}", hint=hint
        )
    return found


def read_predictions_of(sources: Sources, metrics: Source, hint: str) -> Source:
    """The predictions of a metrics record. Raises FormatError if they are missing or from another run."""
    path = Path(metrics.path).with_suffix("") / "predictions.jsonl"
    found = sources.file(path)
    if found is None:
        raise FormatError("no predictions", where=path, hint=hint)
    if found.sha256 != metrics.content["evaluated"].get("predictions_sha256"):
        raise FormatError(f"not the predictions of {metrics.path} (SHA-256 mismatch)", where=path, hint=hint)
    return found


def read_run(
    sources: Sources, cfg: Path, build: Path, metrics: Path, inputs: Path, run_record: Optional[Path] = None
) -> Run:
    """The run of a metrics record. Raises FormatError if metrics or predictions are missing."""
    record = read_metrics(sources, metrics, HINT)
    predictions = read_predictions_of(sources, record, HINT)
    tag = metrics.stem.removesuffix(NOFLIP)
    run_record = run_record or build / "out" / metrics.parent.name / f"{tag}_run.json"
    return Run(build, load_config(cfg), record, predictions, inputs, run_record)
