"""ais_bench's checks of paths, inputs and outputs, which it makes before it runs the model.

The emulator skips two of them, so that it is easier to try: the characters of the absolute path, if a path is given as
relative (`check_for_ais_bench`), and the owner of files (`check_owner`).

Source: the checks of ais_bench 0.0.2, https://gitee.com/ascend/tools ais-bench_workload/tool/ais_bench.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from pathlib import Path

from hrnet.cli import UserError, first_few
from hrnet.io.files import MAX_FILES, AnyPath, natural_key

LEGAL_PATH = re.compile(r"[A-Za-z0-9_\-/.]+")
INPUT_SUFFIXES = (".npy", ".NPY", ".bin", ".BIN")
MAX_FOLDER_MODE = 0o750
MAX_MODEL_BYTES = 10 * 2**30


def check_path(path: str) -> None:
    """Raise UserError for other characters than `A-Za-z0-9_-/.` and for a symbolic link."""
    if not LEGAL_PATH.fullmatch(path):
        raise UserError("ais_bench rejects this path", where=path, expected="only characters A-Za-z0-9_-/.")
    if os.path.islink(path):
        raise UserError("ais_bench rejects symbolic links", where=path, hint="copy the file, or use a hard link")


def check_for_ais_bench(path: AnyPath) -> None:
    """Check the absolute path and, if it exists, the owner of a file or directory. Raises UserError."""
    absolute = os.path.abspath(path)
    if not LEGAL_PATH.fullmatch(absolute):
        hint = "rename the directories, or give BUILD= (OM=, PREP=) in another directory"
        expected = "only characters A-Za-z0-9_-/. in the absolute path"
        raise UserError("ais_bench rejects this path", where=absolute, expected=expected, hint=hint)
    if os.path.exists(path):
        check_owner(path)


def check_owner(path: AnyPath) -> None:
    """Raise UserError unless this user or one of its groups owns the file. This applies to root too."""
    status, own = os.stat(path), os.geteuid()
    if status.st_uid != own and status.st_gid not in os.getgroups():
        found = f"owner {status.st_uid}, group {status.st_gid}"
        hint = f"chown -R {own} {path}, or give another directory: BUILD="
        expected = f"owner {own} or one of its groups"
        raise UserError("ais_bench rejects files of other users", where=path, expected=expected, found=found, hint=hint)


def check_model(path: str) -> None:
    check_path(path)
    if not os.path.isfile(path):
        raise UserError("no such model", where=path, hint="run make om")
    size = os.path.getsize(path)
    if size > MAX_MODEL_BYTES:
        raise UserError("model is too large", where=path, expected=f"at most {MAX_MODEL_BYTES} bytes", found=size)


def list_inputs(folder: str) -> list[Path]:
    """The inputs in a directory (not in subdirectories), in natural order. All entries are checked, with any suffix: no
    symbolic links, not writable by group or others, only legal characters. Raises UserError."""
    check_path(folder)
    if not os.path.isdir(folder):
        raise UserError("no such input directory", where=folder, hint="run make preprocess")
    entries = list(os.scandir(folder))
    if len(entries) > MAX_FILES:
        raise UserError("too many files", where=folder, expected=f"at most {MAX_FILES}", found=len(entries))
    for entry in entries:
        check_path(entry.path)
        if entry.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            hint = f"chmod go-w {entry.path}"
            raise UserError("ais_bench rejects files that group or others may write", where=entry.path, hint=hint)
    names = [entry.name for entry in entries if entry.name.endswith(INPUT_SUFFIXES) and entry.is_file()]
    if not names:
        raise UserError("no .bin or .npy in this directory", where=folder, hint="run make preprocess")
    twice = sorted(stem for stem, count in Counter(name.split(".")[0] for name in names).items() if count > 1)
    if twice:
        what = "several inputs have the same name up to the first dot, and so the same output files"
        raise UserError(what, where=folder, found=first_few(twice))
    return [Path(folder, name) for name in sorted(names, key=natural_key)]


def check_output(folder: str) -> None:
    """Raise UserError if the output directory exists with more permissions than 0750."""
    check_path(folder)
    if os.path.isdir(folder):
        mode = stat.S_IMODE(os.stat(folder).st_mode)
        if mode & ~MAX_FOLDER_MODE:
            found, hint = f"{mode:04o}", f"chmod 750 {folder}"
            raise UserError("wrong directory mode", where=folder, expected="at most 0750", found=found, hint=hint)


def files_per_batch(input_bytes: int, file_bytes: int) -> int:
    """The number of files per batch: the size of the model's input divided by the size of the first file."""
    if file_bytes == 0 or input_bytes % file_bytes:
        hint = "compile and preprocess with the same MODEL and INPUT"
        raise UserError(f"arg0 tensorsize: {input_bytes} filesize: {file_bytes} not match", hint=hint)
    return input_bytes // file_bytes
