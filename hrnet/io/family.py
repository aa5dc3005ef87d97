"""Records of a comparison of models: a measured row (kind `family_row`), the table (`family`), and the latencies that
PaddleClas published (`published`); docs/formats.md describes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from hrnet.io.files import AnyPath
from hrnet.io.records import FormatError, from_json, read_record, to_json, write_record


@dataclass(frozen=True)
class FamilyRow:
    """What was measured of one model."""

    model: str
    gmacs: float
    params_m: float
    weights_sha256: Optional[str]  # None: seeded weights, for speed only
    batch_ms: dict[str, float]  # batch size -> median time of a batch, without file I/O
    images_per_second: dict[str, float]  # batch size -> rate of the device, without file I/O
    tool: str
    top1: Optional[float] = None  # percent, as measured; None: not measured
    top5: Optional[float] = None
    images: int = 0  # that were evaluated

    def write(self, path: AnyPath) -> None:
        write_record(path, "family_row", to_json(self))

    @staticmethod
    def read(path: AnyPath) -> FamilyRow:
        content = read_record(path, "family_row", hint="run make family")
        row: FamilyRow = from_json(FamilyRow, content, path, "row")
        return row


@dataclass(frozen=True)
class PublishedModel:
    """One model in a publisher's tables. Accuracies are in percent; latencies are milliseconds of a batch, one for each
    of `Published.batches`."""

    name: str
    top1: float
    top5: float
    reference_top1: Optional[float]
    reference_top5: Optional[float]
    flops_g: float
    params_m: float
    v100_fp32_ms: Optional[list[float]]
    t4_fp32_ms: Optional[list[float]]
    t4_fp16_ms: Optional[list[float]]


LATENCIES = {"V100 FP32": "v100_fp32_ms", "T4 FP32": "t4_fp32_ms", "T4 FP16": "t4_fp16_ms"}  # of PublishedModel


@dataclass(frozen=True)
class Published:
    """A publisher's tables."""

    source: str
    url: str
    note: str
    batches: list[int]
    models: dict[str, dict[str, Any]]  # name in configs/ -> PublishedModel

    @staticmethod
    def read(path: AnyPath) -> tuple[Published, dict[str, PublishedModel]]:
        """The tables, and their models by the names in configs/."""
        tables: Published = from_json(Published, read_record(path, "published"), path, "tables")
        models = {name: from_json(PublishedModel, values, path, name) for name, values in tables.models.items()}
        for name, model in models.items():
            for column, field in LATENCIES.items():
                times = getattr(model, field)
                if times is not None and len(times) != len(tables.batches):
                    expected = len(tables.batches)
                    raise FormatError(
                        f"{name}: wrong number of times for {column}", where=path, expected=expected, found=len(times)
                    )
        return tables, models
