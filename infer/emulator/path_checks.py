"""The checks of paths, inputs and outputs that ais_bench makes before it runs.

Two of them the emulator does not make, since they would only keep users of other machines from trying it: ais_bench
also rejects characters in the directories above (`check_for_ais_bench`), and files of other users (`check_owner`).

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
    """Only `A-Za-z0-9_-/.`, no symbolic link."""
    if not LEGAL_PATH.fullmatch(path):
        raise UserError("ais_bench rejects this path", where=path, expected="only characters A-Za-z0-9_-/.")
    if os.path.islink(path):
        raise UserError("ais_bench rejects symbolic links", where=path, hint="copy the file or make a hard link")


def check_for_ais_bench(path: AnyPath) -> None:
    """Check the absolute path and the owner of a file or directory, which may not exist yet."""
    absolute = os.path.abspath(path)
    if not LEGAL_PATH.fullmatch(absolute):
        hint = "give BUILD= (OM=, PREP=) below a directory with such a path, or move this one"
        expected = "only characters A-Za-z0-9_-/. in the absolute path"
        raise UserError("ais_bench rejects this path", where=absolute, expected=expected, hint=hint)
    if os.path.exists(path):
        check_owner(path)


def check_owner(path: AnyPath) -> None:
    """Raise UserError unless a file belongs to this user or to one of its groups; root is no exception."""
    status, own = os.stat(path), os.geteuid()
    if status.st_uid != own and status.st_gid not in os.getgroups():
        found = f"owner {status.st_uid}, group {status.st_gid}"
        hint = f"chown -R {own} {path}, or another directory: BUILD="
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
    """The inputs in a directory (not in directories below it), in natural order. Every entry is checked, whatever its
    suffix: no symbolic link, not writable by group or others, only legal characters."""
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
        raise UserError("inputs with equal names up to the first dot", where=folder, found=first_few(twice))
    return [Path(folder, name) for name in sorted(names, key=natural_key)]


def check_output(folder: str) -> None:
    """An existing output directory must have a mode of at most 0750."""
    check_path(folder)
    if os.path.isdir(folder):
        mode = stat.S_IMODE(os.stat(folder).st_mode)
        if mode & ~MAX_FOLDER_MODE:
            found, hint = f"{mode:04o}", f"chmod 750 {folder}"
            raise UserError("directory is too open", where=folder, expected="at most 0750", found=found, hint=hint)


def files_a_batch(input_bytes: int, file_bytes: int) -> int:
    """How many files make one batch: the bytes of the model's input divided by those of the first file."""
    if file_bytes == 0 or input_bytes % file_bytes:
        hint = "give the same BATCH and INPUT as to make om"
        raise UserError(f"arg0 tensorsize: {input_bytes} filesize: {file_bytes} not match", hint=hint)
    return input_bytes // file_bytes
