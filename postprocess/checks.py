"""Check that a config, a manifest and a run record describe the same model and images."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from yacs.config import CfgNode

from hrnet.cli import UserError, first_few
from hrnet.config import check_same_config, config_sha256
from hrnet.io.manifest import Manifest
from hrnet.io.records import FormatError
from hrnet.io.runs import RunRecord


def check_manifest(manifest: Manifest, path: Path, config: CfgNode, cfg: Path) -> None:
    """Raise UserError if the inputs were made with another config."""
    if manifest.config_sha256 != config_sha256(config):
        raise UserError(
            "the inputs were made with another config", where=path, expected=cfg, hint="run make preprocess"
        )


def check_inputs(found: str, where: Path, hashes: Collection[str], path: Path, hint: str) -> None:
    """Raise UserError if the record at `where` was not made from the inputs of the manifest at `path`.

    `found`: the manifest hash in the record; `hashes`: the hashes of the manifest at `path`.
    """
    if found not in hashes:
        raise UserError("made from other inputs", where=where, expected=f"the inputs of {path}", hint=hint)


def check_run(record: RunRecord, path: Path, manifest: Manifest, cfg: Path, outputs: int) -> None:
    """Raise UserError if the model has another config, if the images differ from the manifest's, or if the number of
    outputs per image is not `outputs`."""
    hint = "give the MODEL that the ONNX file was exported from"
    check_same_config(record.metadata, manifest.config_sha256, cfg, path, "the model has another config", hint)
    differ = {image.stem for image in manifest.images} ^ set(record.files)
    if differ:
        hint = f"rm {path}; make infer"
        raise FormatError("not the images of the manifest", where=path, found=first_few(sorted(differ)), hint=hint)
    if len(record.outputs) != outputs or any(len(names) != outputs for names in record.files.values()):
        names = [tensor.name for tensor in record.outputs]
        raise FormatError("wrong number of outputs", where=path, expected=outputs, found=names)
