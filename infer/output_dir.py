"""The place of one run's outputs: a folder, the files beside it, and what of an interrupted run is worth keeping."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from hrnet.io import tensors
from hrnet.io.compiled import CompiledModel
from hrnet.io.files import make_folder
from hrnet.io.manifest import Manifest
from hrnet.io.records import FormatError, read_record, write_record


@dataclass(frozen=True)
class OutputDir:
    """Where the outputs of one run go, and the files beside their folder."""

    parent: Path
    name: str
    outfmt: str  # empty: the model's kind decides

    @property
    def folder(self) -> Path:
        return self.parent / self.name

    def beside(self, ending: str) -> Path:
        return self.parent / f"{self.name}_{ending}"

    def output_names(self, stem: str, outputs: int) -> list[str]:
        return [f"{stem}_{k}.{self.outfmt.lower()}" for k in range(outputs)]

    def listing(self) -> dict[str, int]:
        """Names and sizes in bytes of what lies in the folder; empty where there is none."""
        return {entry.name: entry.stat().st_size for entry in os.scandir(self.folder)} if self.folder.is_dir() else {}

    def is_whole(self, stem: str, there: dict[str, int], sizes: list[int]) -> bool:
        """Whether an input's outputs, of `sizes` bytes, are all `there`, a bin or npy at its full size: a killed
        ais_bench leaves half of one."""
        found = [there.get(name) for name in self.output_names(stem, len(sizes))]
        if self.outfmt == "TXT":
            return None not in found
        header = tensors.NPY_HEADER if self.outfmt == "NPY" else 0
        return found == [header + size for size in sizes]

    def gather(self) -> None:
        """Move what the devices' folders (`device<id>_<i>`, where there were several) hold up into the folder, and
        their summaries beside it."""
        for entry in sorted(self.folder.glob("device*_*")):
            if entry.is_dir():
                for output in list(os.scandir(entry)):
                    os.replace(output.path, self.folder / output.name)
                entry.rmdir()
            elif entry.name.endswith("_summary.json"):
                os.replace(entry, self.beside(entry.name))

    def forget_summaries(self) -> None:
        """Remove the summaries of an earlier run: the next one's must be its own."""
        for path in (self.beside("summary.json"), *self.parent.glob(f"{self.name}_device*_summary.json")):
            path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove what an earlier run left, records first: a kill in between leaves nothing that speaks for the rest."""
        for ending in ("run.json", "settings.json"):
            self.beside(ending).unlink(missing_ok=True)
        self.forget_summaries()
        for folder in (self.folder, self.beside("chunk")):
            if folder.exists():
                shutil.rmtree(folder)


def keep_finished(place: OutputDir, manifest: Manifest, compiled: CompiledModel, settings: dict[str, Any]) -> list[str]:
    """Make the place ready; return the stems that an interrupted run with these settings had finished.

    A run that reached its record is no interrupted one: it is done anew, and so is one of other settings.
    """
    started = place.beside("settings.json")
    finished: list[str] = []
    if _settings_of(started) == settings and not place.beside("run.json").exists():
        place.gather()
        place.forget_summaries()
        there = place.listing()
        finished = [
            image.stem
            for image in manifest.images
            if place.is_whole(image.stem, there, compiled.output_bytes(image.shape))
        ]
        finished = finished[: len(manifest.images) - 1]  # something must be left to do, or the tool has no summary
        count = len(compiled.outputs)
        for name in there.keys() - {name for stem in finished for name in place.output_names(stem, count)}:
            (place.folder / name).unlink()
    if not finished:
        place.clear()
    make_folder(place.folder)
    write_record(started, "settings", {"settings": settings})
    return finished


def _settings_of(record: Path) -> Optional[dict[str, Any]]:
    """None where there is none, or none that can be read: nothing of its run is worth keeping."""
    try:
        settings: Optional[dict[str, Any]] = read_record(record, "settings").get("settings")
        return settings
    except FormatError:
        return None


def link_chunk(folder: Path, inputs: Path, names: list[str]) -> Path:
    """A folder of hard links to some inputs (ais_bench refuses symbolic ones), or of copies where they lie on another
    disk or belong to somebody else."""
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
