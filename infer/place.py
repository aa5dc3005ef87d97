"""The place of one run's outputs: a folder, the files beside it, and what of an interrupted run is worth keeping."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrnet import formats
from hrnet.files import make_folder
from hrnet.formats import Manifest, TensorInfo


@dataclass(frozen=True)
class Place:
    """Where the outputs of one run go, and the files beside their folder."""

    parent: Path
    name: str
    outfmt: str

    @property
    def folder(self) -> Path:
        return self.parent / self.name

    def beside(self, ending: str) -> Path:
        return self.parent / f"{self.name}_{ending}"

    def output_names(self, stem: str, outputs: list[TensorInfo]) -> list[str]:
        return [f"{stem}_{k}.{self.outfmt.lower()}" for k in range(len(outputs))]

    def clear(self) -> None:
        """Remove what an earlier run left, so that nothing old is evaluated with the new."""
        for folder in (self.folder, self.beside("chunk")):
            if folder.exists():
                shutil.rmtree(folder)
        for ending in ("run.json", "summary.json", "settings.json"):
            self.beside(ending).unlink(missing_ok=True)


def keep_finished(place: Place, manifest: Manifest, outputs: list[TensorInfo], settings: dict[str, Any]) -> list[str]:
    """Make the place ready; return the stems that an interrupted run with these settings had finished.

    A run that reached its record is no interrupted one: it is done anew, and so is one of other settings.
    """
    started = place.beside("settings.json")
    finished: list[str] = []
    interrupted = started.exists() and not place.beside("run.json").exists()
    if interrupted and formats.read_record(started, "settings")["settings"] == settings and place.folder.is_dir():
        there = set(os.listdir(place.folder))
        stems = [image.stem for image in manifest.images]
        finished = [stem for stem in stems if there.issuperset(place.output_names(stem, outputs))]
    if len(finished) in (0, len(manifest.images)):
        place.clear()
        finished = []
    make_folder(place.folder)
    formats.write_record(started, "settings", {"settings": settings})
    return finished


def link_chunk(folder: Path, inputs: Path, names: list[str]) -> Path:
    """A folder of hard links to some inputs (ais_bench refuses symbolic ones)."""
    if folder.exists():
        shutil.rmtree(folder)
    make_folder(folder)
    for name in names:
        os.link(inputs / name, folder / name)
    return folder
