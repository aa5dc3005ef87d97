"""The output directory of one pass, its records, and the outputs of an interrupted run, which are kept."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrnet.io import tensor_names
from hrnet.io.compiled import CompiledModel
from hrnet.io.files import make_folder
from hrnet.io.manifest import Manifest
from hrnet.io.records import FormatError, read_record, write_record
from hrnet.io.stamp import stamp_path


@dataclass(frozen=True)
class OutputDir:
    """The directory `folder` with output files `<stem>_<k>.<outfmt>`; records and summaries are beside it."""

    folder: Path
    outfmt: str  # BIN, NPY or TXT

    @property
    def record(self) -> Path:
        """The run record, written last."""
        return self.beside("run.json")

    def beside(self, suffix: str) -> Path:
        return self.folder.with_name(f"{self.folder.name}_{suffix}")

    def output_names(self, stem: str, outputs: int) -> list[str]:
        return [f"{stem}_{k}.{self.outfmt.lower()}" for k in range(outputs)]

    def listing(self) -> dict[str, int]:
        """{file name: size in bytes} of the directory; empty if it does not exist."""
        return {entry.name: entry.stat().st_size for entry in os.scandir(self.folder)} if self.folder.is_dir() else {}

    def finished(self, manifest: Manifest, compiled: CompiledModel) -> list[str]:
        """Stems of the images with complete outputs: all files exist, and .bin and .npy files have the correct size (a
        killed ais_bench leaves partial files)."""
        listing = self.listing()
        header = tensor_names.NPY_HEADER if self.outfmt == "NPY" else 0
        stems = []
        for image in manifest.images:
            sizes = compiled.output_bytes(image.shape)
            found = [listing.get(name) for name in self.output_names(image.stem, len(sizes))]
            if None not in found if self.outfmt == "TXT" else found == [header + size for size in sizes]:
                stems.append(image.stem)
        return stems

    def is_complete(self, manifest: Manifest, compiled: CompiledModel) -> bool:
        """Whether the directory contains all outputs of all images and nothing else."""
        images, outputs = len(manifest.images), len(compiled.outputs)
        return len(self.finished(manifest, compiled)) == images and len(self.listing()) == images * outputs

    def remove_summary(self) -> None:
        """Remove the summary of an earlier run, so that it is not read as the summary of this run."""
        self.beside("summary.json").unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove all files of an earlier run. The record is removed first, so that it never describes removed
        outputs."""
        for path in (self.record, stamp_path(self.folder), self.beside("settings.json")):
            path.unlink(missing_ok=True)
        self.remove_summary()
        for folder in (self.folder, self.beside("chunk")):
            if folder.exists():
                shutil.rmtree(folder)


def keep_finished(
    output: OutputDir, manifest: Manifest, compiled: CompiledModel, settings: dict[str, Any]
) -> list[str]:
    """Prepare the directory; return the stems that an interrupted run with the same settings has finished.

    All outputs are removed if the settings differ, or if a record or stamp shows that the earlier run was not
    interrupted.
    """
    path = output.beside("settings.json")
    kept: list[str] = []
    if (
        read_settings(path).get("settings") == settings
        and not output.record.exists()
        and not stamp_path(output.folder).exists()
    ):
        output.remove_summary()
        # At least one input must remain: without inputs the tool writes no summary.
        kept = output.finished(manifest, compiled)[: len(manifest.images) - 1]
        names = {name for stem in kept for name in output.output_names(stem, len(compiled.outputs))}
        for name in output.listing().keys() - names:
            (output.folder / name).unlink()
    if not kept:
        output.clear()
    make_folder(output.folder)
    write_record(path, "settings", {"settings": settings})
    return kept


def read_settings(path: Path) -> dict[str, Any]:
    """Read a record of kind `settings`; empty if it is missing or unreadable."""
    try:
        return read_record(path, "settings")
    except FormatError:
        return {}


def link_inputs(folder: Path, inputs: Path, names: list[str]) -> Path:
    """Create `folder` with hard links to the inputs `names`, since ais_bench rejects symbolic links. Files on another
    disk or of another user are copied."""
    if folder.exists():
        shutil.rmtree(folder)
    make_folder(folder)
    for name in names:
        try:
            os.link(inputs / name, folder / name)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM):
                raise
            shutil.copy(inputs / name, folder / name)
    return folder
