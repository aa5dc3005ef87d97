"""What ais_bench demands of paths, inputs and outputs before it runs, for its twin to demand too.

Source: the checks of ais_bench 0.0.2, https://gitee.com/ascend/tools ais-bench_workload/tool/ais_bench.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from pathlib import Path

from hrnet.cli import UserError, first_few
from hrnet.io.files import MAX_FILES, natural_key

LEGAL_PATH = re.compile(r"[A-Za-z0-9_\-/.]+")
INPUT_SUFFIXES = (".npy", ".NPY", ".bin", ".BIN")
MAX_FOLDER_MODE = 0o750
MAX_MODEL_BYTES = 10 * 2**30


def check_path(path: str) -> None:
    """Only `A-Za-z0-9_-/.`, no symbolic link."""
    if not LEGAL_PATH.fullmatch(path):
        raise UserError("path holds a character that ais_bench refuses", where=path, expected="A-Za-z0-9_-/. only")
    if os.path.islink(path):
        raise UserError("is a symbolic link, which ais_bench refuses", where=path, hint="copy it or link it hard")


def check_model(path: str) -> None:
    check_path(path)
    if not os.path.isfile(path):
        raise UserError("no such model", where=path, hint="run make om")
    size = os.path.getsize(path)
    if size > MAX_MODEL_BYTES:
        raise UserError("model is too large", where=path, expected=f"at most {MAX_MODEL_BYTES} bytes", found=size)


def list_inputs(folder: str) -> list[Path]:
    """The inputs of a folder itself (not of folders below it), in natural order. Each entry of the folder is checked,
    whatever its ending: no link, not writable by group or world, no other characters."""
    check_path(folder)
    if not os.path.isdir(folder):
        raise UserError("no such input folder", where=folder, hint="run make preprocess")
    entries = list(os.scandir(folder))
    if len(entries) > MAX_FILES:
        raise UserError("too many files in a folder", where=folder, expected=f"at most {MAX_FILES}", found=len(entries))
    for entry in entries:
        check_path(entry.path)
        if entry.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            hint = f"chmod go-w {entry.path}"
            raise UserError("group or world may write it, which ais_bench refuses", where=entry.path, hint=hint)
    names = [entry.name for entry in entries if entry.name.endswith(INPUT_SUFFIXES) and entry.is_file()]
    if not names:
        raise UserError("holds no .bin or .npy", where=folder, hint="run make preprocess")
    twice = sorted(stem for stem, count in Counter(name.split(".")[0] for name in names).items() if count > 1)
    if twice:
        raise UserError(
            "inputs whose names agree up to the first dot share outputs", where=folder, found=first_few(twice)
        )
    return [Path(folder, name) for name in sorted(names, key=natural_key)]


def check_output(folder: str) -> None:
    """An output folder that exists may be at most 0750."""
    check_path(folder)
    if os.path.isdir(folder):
        mode = stat.S_IMODE(os.stat(folder).st_mode)
        if mode & ~MAX_FOLDER_MODE:
            hint = f"chmod 750 {folder}"
            raise UserError(
                "output folder is too open", where=folder, expected="at most 0750", found=f"{mode:04o}", hint=hint
            )


def check_emulator_device(device: str, several: bool = False) -> None:
    """The twin computes on one device: this machine, or, where its runtime sees `several`, one of them."""
    if device != "0" and not (several and device.isdecimal()):
        hint = "DEVICE=0, or BACKEND=ascend for several"
        raise UserError("the twin of ais_bench has one device", expected="--device 0", found=device, hint=hint)


def files_a_batch(input_bytes: int, file_bytes: int) -> int:
    """How many files make one batch: the model's input bytes over the first file's, which must divide."""
    if file_bytes == 0 or input_bytes % file_bytes:
        raise UserError(
            f"arg0 tensorsize: {input_bytes} filesize: {file_bytes} not match", hint="BATCH and INPUT as in make om"
        )
    return input_bytes // file_bytes
