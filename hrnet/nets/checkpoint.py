"""Checkpoints: bare state dicts or `{"state_dict": …}`, with or without `module.` before each key.

Files: `.safetensors`, or what `torch.save` writes (`.pth`, `.pth.tar` and any other name). A pickle is read with
`weights_only=True`: it can hold tensors and plain values, but cannot run code.

PaddleClas' SE_HRNet_W64_C_ssld must be converted first: docs/formats.md lists its names beside ours.
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hrnet.cli import UserError, first_few
from hrnet.io.files import AnyPath, make_folder, replacing, sha256_file

HTML_WITHIN = 1024  # bytes at the start of a file


def load(net: nn.Module, path: AnyPath) -> str:
    """Load all keys of a checkpoint into `net`; return the file's SHA-256.

    Raises UserError when the file is missing, not a checkpoint, would run code, or does not fit the net.
    """
    path = Path(path)
    state = read_state(path)
    wanted = net.state_dict()
    # torch before 0.4.1 did not count batches; the count is only used to train with momentum None.
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in wanted]
    shapes = [
        f"{key} {list(state[key].shape)} for {list(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    errors = [
        f"{len(keys)} {what}: {first_few(keys)}"
        for what, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if keys
    ]
    if errors:
        hint = "is --cfg the config that this checkpoint was trained with?"
        raise UserError(f"does not fit the net: {'; '.join(errors)}", where=path, hint=hint)
    net.load_state_dict(state, strict=False)
    return sha256_file(path)


def save(net: nn.Module, path: AnyPath) -> None:
    """Write the net's bare state dict in one step; equal weights give equal bytes."""
    path = Path(path)
    make_folder(path.parent)
    # Through a file object: given a name, torch writes it into the archive, and `temporary` is not the final one.
    with replacing(path) as temporary, open(temporary, "wb") as file:
        torch.save(state_on_cpu(net), file)


def state_on_cpu(net: nn.Module) -> dict[str, torch.Tensor]:
    """The net's state dict with all tensors on the CPU, so that a file of it can be read on any machine."""
    state = net.state_dict()
    for key in state:
        state[key] = state[key].cpu()
    return state


def check_exists(path: AnyPath) -> None:
    if not Path(path).is_file():
        raise UserError("no such checkpoint", where=path, hint="put the file there, or give another one")


def read_state(path: AnyPath) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint by their names, on the CPU, without wrapper and `module.` prefix."""
    check_exists(path)
    path = Path(path)
    content = _read_safetensors(path) if path.suffix == ".safetensors" else read_pickle(path)
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    expected = 'names and tensors, or these under "state_dict"'
    if not isinstance(content, dict) or not content:
        found = "an empty dict" if isinstance(content, dict) else type(content).__name__
        raise UserError("not a state dict", where=path, expected=expected, found=found)
    others = [str(key) for key, value in content.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise UserError("not a state dict", where=path, expected=expected, found=first_few(others))
    return {key[len("module.") :] if key.startswith("module.") else key: value for key, value in content.items()}


def _read_safetensors(path: Path) -> Any:
    try:  # imported here, since only this format needs it
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ModuleNotFoundError:
        raise UserError("safetensors is not installed", where=path, hint="pip install safetensors") from None
    try:
        return load_file(path)
    except SafetensorError as error:
        raise _unreadable(path, error, "safetensors") from None


def read_pickle(path: Path) -> Any:
    """The content of a file of torch.save. Raises UserError for another file, and for a pickle that would run code."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if not refused:
            raise _unreadable(path, error) from None
        hint = 'save only its tensors where it was made: torch.save(checkpoint["state_dict"], …)'
        raise UserError("loading this pickle would run code", where=path, found=refused[1], hint=hint) from None
    except OSError:
        raise
    except Exception as error:  # a damaged pickle makes torch raise exceptions of almost any type
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception, kind: str = "PyTorch") -> UserError:
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(HTML_WITHIN).lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        hint = "open it in a browser to see why the download failed, then download again"
        return UserError(f"not a {kind} checkpoint", where=path, found="an HTML page", hint=hint)
    message = " ".join(str(error).split(". ")[0].split())
    reason = f"{type(error).__name__}: {message}" if message else type(error).__name__
    hint = "if it was downloaded, compare its size with the published one and download again"
    return UserError(f"not a {kind} checkpoint, or damaged", where=path, found=f"{size} bytes, {reason}", hint=hint)
