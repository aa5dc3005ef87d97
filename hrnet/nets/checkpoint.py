"""Checkpoints: find the weights of a network in a file, check them, load them, and report what was done.

Files: what `torch.save` writes (hrnet/nets/torch_file.py), safetensors, and what `paddle.save` writes
(hrnet/nets/paddle_file.py), recognised by their content. The dictionary with the names of the network's weights may
have any key in the file (`state_dict`, `model`, `net`, …). Several such dictionaries, for example the trained weights
and their moving average (EMA), are rejected unless they are equal. A prefix that all names have (`module.`,
`_orig_mod.`, `1.` of upstream's training in float16, …) is removed.

The names of the weights are upstream's; timm uses the same names. PaddleClas' names are converted
(hrnet/nets/paddle_names.py).
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

import torch
from torch import nn

from hrnet.cli import UserError, first_few, plural
from hrnet.hints import PIP
from hrnet.io.files import AnyPath, make_folder, replacing, sha256_file
from hrnet.io.recognise import CHECKPOINT, DOWNLOAD_AGAIN, PDPARAMS, SAFETENSORS, recognise
from hrnet.nets import paddle_file, paddle_names, torch_file
from hrnet.nets.identify import models_of
from hrnet.nets.torch_file import Keys, join_keys, resave, walk

# Largest allowed weight: trained weights are far smaller, but damaged bits often give a larger one.
LARGEST = 1e18
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)  # types that are converted to float32
WRONG_CONFIG = "give the config that this checkpoint was trained with: MODEL or CFG (for a script --cfg)"
COUNT = "num_batches_tracked"  # of batch norms; only for training with momentum None; missing before torch 0.4.1

State = dict[str, torch.Tensor]
Report = Callable[[str], None]


def to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


def load(net: nn.Module, path: AnyPath, report: Report = to_stderr) -> str:
    """Load all weights of a checkpoint into `net`; return the file's SHA-256. What was changed, such as a removed
    prefix, is reported in one line.

    Raises UserError when the file is missing, not a checkpoint, damaged, would run code, or does not match the network.
    """
    load_content(net, read(path), Path(path), report)
    return sha256_file(path)


def load_content(net: nn.Module, content: Any, path: Path, report: Report) -> None:
    """Load content that was read from `path`; see `load`."""
    wanted = net.state_dict()
    found = _choose(content, wanted, path)
    biases = _biases_before_norms(net)
    missing = [key for key in wanted if key not in found.state and not key.endswith(COUNT)]
    if biases and set(missing) == biases:  # zeros in front of a batch norm are the same as none
        found.notes.append(f"{plural(len(biases), 'bias', 'biases')} in front of batch norms set to 0, since missing")
        found.state.update({key: torch.zeros_like(wanted[key]) for key in biases})
        missing = []
    _load(net, found, wanted, path, missing, [key for key in found.state if key not in wanted], report)


def load_matching(net: nn.Module, path: AnyPath, layers: Iterable[str], report: Report) -> None:
    """Load those weights of a checkpoint that `net` has too, in the modules `layers` ("*": all), as upstream's
    MODEL.PRETRAINED and PRETRAINED_LAYERS do; all other weights are kept. Raises UserError as `load` does."""
    path, layers = Path(path), list(layers)
    wanted = {key: value for key, value in net.state_dict().items() if "*" in layers or key.split(".")[0] in layers}
    found = _choose(read(path), wanted, path)
    state = {key: value for key, value in found.state.items() if key in wanted}
    if 2 * _count_weights(state) < _count_weights(wanted):
        what = f"contains only {_count_weights(state)} of {_count_weights(wanted)} weights of the network"
        raise UserError(what, where=path, expected="at least half", found=first_few(found.state), hint=WRONG_CONFIG)
    left = Counter(key.split(".")[0] for key in net.state_dict() if key not in state and not key.endswith(COUNT))
    found.notes.append(f"{len(state)} of {len(net.state_dict())} weights are loaded")
    if left:
        found.notes.append(f"not loaded: {first_few(left, 9)}")
    _load(net, found._replace(state=state), wanted, path, [], [], report)


def save(net: nn.Module, path: AnyPath) -> None:
    """Write the network's bare state dict in one step; equal weights give equal bytes."""
    path = Path(path)
    make_folder(path.parent)
    # A file object, since torch would write a file name into the archive, and `temporary` is not the final name.
    with replacing(path) as temporary, open(temporary, "wb") as file:
        torch.save(state_on_cpu(net), file)


def state_on_cpu(net: nn.Module) -> State:
    """The network's state dict with all tensors on the CPU, so that the file can be read on any machine."""
    state = net.state_dict()
    for key in state:
        state[key] = state[key].cpu()
    return state


def check_exists(path: AnyPath) -> None:
    path = Path(path)
    if path.is_dir():
        kind = recognise(path)
        assert kind is not None
        raise UserError("not a PyTorch checkpoint", where=path, found=kind.name, hint=kind.hint)
    if path.is_symlink() and not path.exists():
        found = f"a link to {os.readlink(path)}, which is missing"
        raise UserError("no such checkpoint", where=path, found=found, hint="give the file itself")
    if not path.is_file():
        raise UserError("no such checkpoint", where=path, hint="put the file there, or give another one")


def read(path: AnyPath) -> Any:
    """The content of a file of torch.save, safetensors or paddle.save, on the CPU. Raises UserError for other files."""
    check_exists(path)
    path = Path(path)
    kind = recognise(path)
    if kind is not None and kind.name == CHECKPOINT:
        return torch_file.read(path)
    if kind is not None and kind.name == SAFETENSORS:
        return _read_safetensors(path)
    if kind is not None and kind.name == PDPARAMS:
        return paddle_file.read(path)
    if kind is not None:
        raise UserError("not a PyTorch checkpoint", where=path, found=kind.name, hint=kind.hint)
    with open(path, "rb") as file:
        found = f"{path.stat().st_size} bytes that begin with {file.read(8).hex(' ')}"
    raise UserError("not a PyTorch checkpoint, or damaged", where=path, found=found, hint=DOWNLOAD_AGAIN)


def _read_safetensors(path: Path) -> Any:
    try:  # imported here, since only this format needs it
        from safetensors.torch import load_file
    except ModuleNotFoundError:
        raise UserError("safetensors is not installed", where=path, hint=f"{PIP} install safetensors") from None
    size = path.stat().st_size
    try:
        with open(path, "rb") as file:
            header = int.from_bytes(file.read(8), "little")
            tensors = json.loads(file.read(header))
        expected = 8 + header + max(entry["data_offsets"][1] for entry in tensors.values() if "dtype" in entry)
        if size < expected:
            what = "truncated safetensors file"
            raise UserError(what, where=path, expected=f"{expected} bytes", found=f"{size} bytes", hint=DOWNLOAD_AGAIN)
        return load_file(path)
    except (UserError, OSError):
        raise
    except Exception as error:  # SafetensorError, or of any type for a damaged header
        found = f"{size} bytes, {' '.join(str(error).split())}"
        raise UserError("damaged safetensors file", where=path, found=found, hint=DOWNLOAD_AGAIN) from None


class Candidate(NamedTuple):
    """A dictionary in a checkpoint with names of the network's weights."""

    keys: Keys  # where it was
    prefix: str
    state: dict[str, Any]  # without the prefix
    hits: int  # number of the network's weights in it, with any prefix
    notes: list[str]

    @property
    def name(self) -> str:
        return join_keys(self.keys) or "the file itself"


def _choose(content: Any, wanted: Mapping[str, torch.Tensor], path: Path) -> Candidate:
    """The dictionary in `content` with most of the wanted names. Raises UserError if there is none, or if there are two
    that differ."""
    dictionaries = [_without_prefix(keys, value, wanted) for keys, value in walk(content) if isinstance(value, dict)]
    with_tensors = [each for each in dictionaries if any(isinstance(v, torch.Tensor) for v in each.state.values())]
    if not with_tensors:
        expected = 'names and tensors, or these under a key such as "state_dict"'
        found: Any = type(content).__name__
        if isinstance(content, dict):
            found = first_few(str(key) for key in content) or "an empty dict"
        raise UserError("not a state dict", where=path, expected=expected, found=found)
    likely = [each for each in with_tensors if 2 * each.hits >= _count_weights(wanted)]
    if not likely:
        return max(with_tensors, key=lambda each: (each.hits, len(each.state)))
    first = likely[0]
    different = [each for each in likely[1:] if not _equal(first.state, each.state)]
    if different:
        names = [each.name for each in (first, *different)]
        hint = f"choose one: {' or '.join(resave(path, each.keys) for each in (first, *different)[:2])}"
        what = f"several dictionaries of weights: {' and '.join(names)}"
        raise UserError(what, where=path, expected="one, or equal ones", found=f"{len(names)} that differ", hint=hint)
    if first.keys:
        first.notes.append(f"weights read from {first.name}")
    if likely[1:]:
        first.notes.append(f"same weights in {first_few(each.name for each in likely[1:])}")
    if first.prefix:
        first.notes.append(f"prefix {first.prefix} removed from all names")
    return first


def _without_prefix(keys: Keys, content: dict[Any, Any], wanted: Mapping[str, torch.Tensor]) -> Candidate:
    """`content` without the common prefix of its names, if this gives more names of the network's weights."""
    renamed = paddle_names.has_paddle_names(content)
    state = paddle_names.to_upstream_names(content) if renamed else {str(key): value for key, value in content.items()}
    notes = ["PaddleClas' names changed to upstream's"] if renamed else []
    ends = zip(min(state, default=""), max(state, default=""))  # the common prefix of these two is common to all names
    prefix = "".join(a for a, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], ends))
    cut = {key[len(prefix) :]: value for key, value in state.items()}
    plain, without = (_count_weights(key for key in each if key in wanted) for each in (state, cut))
    hits = max(plain, without, _count_weights({_split(key, wanted)[1] for key in state} - {""}))
    return Candidate(keys, prefix, cut, hits, notes) if without > plain else Candidate(keys, "", state, hits, notes)


def _split(key: str, wanted: Mapping[str, torch.Tensor]) -> tuple[str, str]:
    """`key` split into a prefix and the name of a weight of the network; two empty texts if this is impossible."""
    cuts = [0, *(i + 1 for i, letter in enumerate(key) if letter == ".")]
    return next(((key[:cut], key[cut:]) for cut in cuts if key[cut:] in wanted), ("", ""))


def _count_weights(state: Iterable[str]) -> int:
    return sum(not key.endswith(COUNT) for key in state)


def _equal(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    def same(x: Any, y: Any) -> bool:
        tensors = isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor)
        return tensors and x.dtype == y.dtype and x.shape == y.shape and torch.equal(x, y)

    return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)


def _biases_before_norms(net: nn.Module) -> set[str]:
    """Names of the biases of convolutions in front of batch norms: upstream's head has four, PaddleClas' has none."""
    pairs = [(name, module) for name, module in net.named_modules() if isinstance(module, nn.Sequential)]
    return {
        f"{name}.0.bias"
        for name, module in pairs
        if len(module) > 1
        and isinstance(module[0], nn.Conv2d)
        and module[0].bias is not None
        and isinstance(module[1], nn.BatchNorm2d)
    }


def _load(
    net: nn.Module,
    found: Candidate,
    wanted: Mapping[str, torch.Tensor],
    path: Path,
    missing: list[str],
    unexpected: list[str],
    report: Report,
) -> None:
    """Check the names, types, shapes and values of `found`, and load it."""
    state, converted = _checked(found.state, wanted)
    shapes = [
        f"{key} {list(found.state[key].shape)} for {list(wanted[key].shape)}"
        for key in state
        if found.state[key].shape != wanted[key].shape
    ]
    kinds = [f"{key} ({_kind_of(found.state[key])})" for key in found.state if key in wanted and key not in state]
    lists = {"missing": missing, "unexpected": unexpected, "of another shape": shapes, "of another type": kinds}
    errors = [f"{len(keys)} {what}: {first_few(keys, 1)}" for what, keys in lists.items() if keys]
    if errors:
        where = f" ({found.name})" if found.keys else ""
        models = models_of(found.state) if missing or unexpected or shapes else []
        what, hint = f"does not match the network{where}", _prefixes(unexpected, wanted) or WRONG_CONFIG
        if models:
            model, _, classes = models[0].partition(" with ")
            what, hint = f"weights of another model{where}, {' or '.join(models)}", f"give MODEL={model}"
            if classes:
                change = f"set MODEL.NUM_CLASSES to {classes.split()[0]} and remove REFERENCE and CLASS_NAMES in it"
                hint = f"copy configs/{model}.yaml to another name, {change}, and give CFG=<the copy>"
        elif 2 * (len(missing) + len(shapes)) > _count_weights(wanted):
            what = f"weights of another model{where}"
        raise UserError(f"{what}: {'; '.join(errors)}", where=path, hint=hint)
    broken = [key for key, value in state.items() if value.numel() and not float(value.abs().max()) <= LARGEST]
    if broken:
        count = plural(len(broken), "weight is", "weights are")
        what = f"{count} NaN, infinite or above {LARGEST:.0e}: {first_few(broken)}"
        raise UserError(what, where=path, hint="the training diverged or the file is damaged: give another checkpoint")
    if converted:
        found.notes.append(f"{', '.join(sorted(converted))} converted to float32")
    net.load_state_dict(state, strict=False)
    if found.notes:
        report(f"{path}: {'; '.join(found.notes)}")


def _checked(state: Mapping[str, Any], wanted: Mapping[str, torch.Tensor]) -> tuple[State, set[str]]:
    """The tensors in `state` that have plain numbers, converted to the dtypes of `wanted`, and the names of the dtypes
    that were converted."""
    good: State = {}
    converted = set()
    for key in wanted:
        value = state.get(key)
        if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.is_quantized or value.is_meta:
            continue
        if not wanted[key].is_floating_point():
            if value.dtype in (*FLOATS, torch.int64, torch.int32):
                good[key] = value
        elif value.dtype in FLOATS:
            good[key] = value if value.shape != wanted[key].shape else value.to(wanted[key].dtype)
            converted |= {str(value.dtype)[len("torch.") :]} - {str(wanted[key].dtype)[len("torch.") :]}
    return good, converted


def _kind_of(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return str(value.dtype).replace("torch.", "")
    return getattr(value, "name", "") or type(value).__name__


def _prefixes(unexpected: Iterable[str], wanted: Mapping[str, torch.Tensor]) -> Optional[str]:
    """A hint if some of the names, but not all, have a prefix before the name of a weight."""
    found: Counter[str] = Counter()
    others: list[str] = []
    for key in unexpected:
        prefix, _ = _split(key, wanted)
        found.update([prefix])
        others += [] if prefix else [key]
    del found[""]
    if not found:
        return None
    names = " and ".join(f"{count} names have the prefix {prefix}" for prefix, count in found.most_common(3))
    without = f", others have none: {first_few(others)}" if others else ""
    return f"{names}{without}; save only the weights of one network"
