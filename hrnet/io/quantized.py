"""The record beside an int8 model for atc (`<model>.json`, kind `quantized`): what it was made from, and how."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from hrnet import calibration
from hrnet.io.files import AnyPath, sha256_file
from hrnet.io.records import FormatError, from_json, read_record, write_record

HINT = "run make quantize"
OPSETS = range(8, 15)  # of ONNX files that amct_onnx supports


@dataclass(frozen=True)
class QuantizedModel:
    """The record of `PREFIX_deploy_model.onnx`, written by `amct.quantize`."""

    model_sha256: str  # of the deploy model
    fake_quant_sha256: str  # of PREFIX_fake_quant_model.onnx
    source_sha256: str  # of the float32 ONNX file
    command: list[str]
    tool: str  # "amct_onnx" or "amct.emulator"
    batch: int  # images in one file of --data_dir
    images: list[str]  # calibration images: paths in the data set
    calibration: dict[str, str]  # what the emulator reports: method, and the error of each method

    @staticmethod
    def record_path(model: AnyPath) -> Path:
        return Path(f"{model}.json")

    def metadata(self) -> dict[str, str]:
        """Its metadata for the record of the compiled model."""
        hashes = " ".join(sorted(map(calibration.name_hash, self.images)))
        return {"int8.tool": self.tool, **self.calibration, calibration.IMAGES: hashes}

    def write(self, model: AnyPath) -> None:
        write_record(self.record_path(model), "quantized", asdict(self))

    @staticmethod
    def read(model: AnyPath, source: AnyPath) -> QuantizedModel:
        """Read the record beside `model`. Raises FormatError if it describes another file, or if the model was not made
        from the ONNX file `source`."""
        path = QuantizedModel.record_path(model)
        record: QuantizedModel = from_json(
            QuantizedModel, read_record(path, "quantized", HINT), path, "record of an int8 model"
        )
        hint = f"rm {model}; make quantize"
        if record.model_sha256 != sha256_file(model):
            raise FormatError("damaged or replaced", where=model, expected=f"the hash in {path}", hint=hint)
        if record.source_sha256 != sha256_file(source):
            raise FormatError("quantized from another ONNX file", where=model, expected=source, hint=hint)
        return record
