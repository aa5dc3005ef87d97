"""Read files of `torch.save` without running the code in them, for any device and any version of torch.

A file is a zip archive (`<name>/data.pkl`, a pickle; `<name>/data/<key>`, the bytes of each storage; since torch 1.6)
or, in older versions, a sequence of pickles (magic number, protocol, machine, content, storage keys) followed by the
storages. Formats: https://github.com/pytorch/pytorch torch/serialization.py and torch/_utils.py.

Unlike torch.load(weights_only=True), this reader checks the CRC of all members of the archive, ignores the device that
a tensor was saved on (`npu:0`), reads tensors that torch_npu saved, and reports the key of an object that it rejects.
Only tensors, containers and plain values are built; all other objects are replaced by `StandIn`s.
"""

from __future__ import annotations

import errno
import io
import os
import pickle
import re
import shlex
import struct
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Callable, NamedTuple, Optional, Union

import torch

from hrnet.cli import UserError
from hrnet.io.files import AnyPath
from hrnet.io.recognise import DOWNLOAD_AGAIN

SPECIAL = re.compile(r"[\"$`\\!]")  # characters that the shell changes within double quotes
BLOCK = 1 << 20  # bytes
DTYPES = {
    **{"Float": torch.float32, "Double": torch.float64, "Half": torch.float16, "BFloat16": torch.bfloat16},
    **{"Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8},
    **{"Bool": torch.bool, "ComplexFloat": torch.complex64, "ComplexDouble": torch.complex128},
    **{"Untyped": torch.uint8},
}
TORCH_DTYPES = {name: value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}
QUANTIZED = {"QInt8": 1, "QUInt8": 1, "QInt32": 4, "QUInt4x2": 1, "QUInt2x4": 1}  # bytes of an element
# Modules and names of objects that many checkpoints have besides the weights. They are accepted, but not built.
ACCEPTED_MODULES = frozenset(
    ("numpy", "numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric", "numpy._core.numeric")
)
ACCEPTED = frozenset(
    (
        *(f"builtins.{name}" for name in ("bytearray", "bytes", "complex", "frozenset", "object", "range", "set")),
        *(f"builtins.{name}" for name in ("slice", "dict", "list", "tuple", "int", "float", "str", "bool")),
        *("_codecs.encode", "copyreg._reconstructor", "torch.Size", "torch.device", "torch.Tensor"),
        *("torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer", "torch.serialization._get_layout"),
        *(f"torch.{name}" for name, value in vars(torch).items() if isinstance(value, (torch.qscheme, torch.layout))),
        "torch_npu.npu._format.Format",
    )
)


Buffer = Union[bytearray, memoryview]


class StandIn:
    """Replaces an object that is not built. `parts`: all values that the pickle passes to it."""

    name = ""
    accepted = False  # whether the file may contain it

    def __new__(cls, *args: Any, **options: Any) -> StandIn:
        self = object.__new__(cls)
        self.parts = [*args, *options.values()]
        return self

    parts: list[Any]

    def __call__(self, *args: Any) -> StandIn:
        self.parts.extend(args)
        return self

    def __setstate__(self, state: Any) -> None:
        self.parts.append(state)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.parts.append({key: value} if isinstance(key, str) else value)

    append = add = __setstate__

    def extend(self, values: Any) -> None:
        self.parts.extend(values)

    update = extend


class Unusable(StandIn):
    """Replaces a tensor without plain values, such as a sparse one; `name`: its kind."""

    accepted = True


class Mapping(dict[Any, Any]):
    """Replaces the dictionaries of `collections`."""

    def __init__(self, content: Any = ()) -> None:
        super().__init__(content if isinstance(content, (dict, list, tuple)) else ())

    def __setstate__(self, state: Any) -> None:
        """Ignore attributes, such as torch's `_metadata` (versions of modules)."""


class StorageType(NamedTuple):
    dtype: Optional[torch.dtype]  # None: quantized
    size: int  # bytes of an element


class Storage:
    """The bytes of one or several tensors. `fetch` reads them."""

    def __init__(self, kind: StorageType, count: int, fetch: Callable[[], Buffer]) -> None:
        self.kind, self.bytes, self.fetch = kind, count * kind.size, fetch
        self._flat: Optional[torch.Tensor] = None

    def flat(self, dtype: Optional[torch.dtype] = None) -> torch.Tensor:
        """All elements, [count]."""
        if self.kind.dtype is None:
            raise ValueError("a quantized storage in a plain tensor")
        if self._flat is None:
            content = self.fetch()
            if len(content) != self.bytes:
                raise ValueError(f"a storage of {len(content)} bytes, expected {self.bytes}")
            # torch.frombuffer rejects an empty buffer
            self._flat = torch.frombuffer(content, dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)
        return self._flat.view(dtype or self.kind.dtype)


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> torch.Tensor:
    """Replaces torch._utils._rebuild_tensor, its _v2, and the function of torch_npu, whose last argument is the layout
    on the chip."""
    return torch.as_strided(storage.flat(), tuple(size), tuple(stride), offset)


def _tensor_v3(storage: Any, offset: int, size: Any, stride: Any, _: Any, __: Any, dtype: Any, *___: Any) -> Any:
    return torch.as_strided(storage.flat(dtype), tuple(size), tuple(stride), offset)


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _subclass(rebuild: Any, kind: Any, args: Any, state: Any) -> Any:
    """A tensor with attributes of its own. `kind`: its class."""
    return rebuild(*args) if isinstance(kind, type) and issubclass(kind, StandIn) and kind.accepted else kind(args)


def _device_tensor(data: Any, *_: Any) -> Any:
    return data


REBUILT: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch_npu.utils.storage._rebuild_npu_tensor": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _device_tensor,
    "torch._tensor._rebuild_from_type_v2": _subclass,
    "collections.OrderedDict": Mapping,
    "collections.defaultdict": Mapping,
    "collections.Counter": Mapping,
}
UNUSABLE = {
    "torch._utils._rebuild_sparse_tensor": "a sparse tensor",
    "torch._utils._rebuild_sparse_csr_tensor": "a sparse tensor",
    "torch._utils._rebuild_nested_tensor": "a nested tensor",
    "torch._utils._rebuild_qtensor": "a quantized tensor",
    "torch._utils._rebuild_meta_tensor_no_storage": "a meta tensor, which has no values",
    "torch._utils._rebuild_wrapper_subclass": "a tensor subclass",
    "torch._utils._rebuild_device_tensor_from_numpy": "a tensor of another device, saved as a numpy array",
    "torch.nn.parameter.UninitializedParameter": "a parameter without values",
}


class Unpickler(pickle._Unpickler):  # a damaged file could make the one in C allocate any amount of memory
    """Builds tensors, containers and plain values. `foreign`: the name of the first other class in the file, or ""."""

    def __init__(self, file: BinaryIO, storage: Callable[[StorageType, str, int], Any]) -> None:
        super().__init__(file, encoding="latin1")  # keys that Python 2 wrote are bytes
        self.storage, self.foreign = storage, ""
        self.classes: dict[str, Any] = {}

    def find_class(self, module: str, name: str) -> Any:
        module = PYTHON_2.get(module, module)
        full = f"{module}.{name}"
        if full in REBUILT:
            return REBUILT[full]
        if module.split(".")[0] in ("torch", "torch_npu") and name.endswith("Storage"):
            kind = name[: -len("Storage")]
            if kind in DTYPES:
                return StorageType(DTYPES[kind], torch.empty(0, dtype=DTYPES[kind]).element_size())
            if kind in QUANTIZED:
                return StorageType(None, QUANTIZED[kind])
        if module == "torch" and name in TORCH_DTYPES:
            return TORCH_DTYPES[name]
        if full not in self.classes:
            accepted = full in ACCEPTED or module in ACCEPTED_MODULES
            self.foreign = self.foreign or ("" if accepted or full in UNUSABLE else full)
            base = Unusable if full in UNUSABLE else StandIn
            values = {"name": UNUSABLE.get(full, full), "accepted": accepted or full in UNUSABLE}
            self.classes[full] = type("StandIn", (base,), values)
        return self.classes[full]

    def persistent_load(self, pid: Any) -> Any:
        """`pid` of a storage: ("storage", type, key, device, number of elements); old files add a view of the storage
        (key, offset, number of elements) or None. `pid` of a module of torch 0.x: ("module", class, …)."""
        if pid[0] == "module":
            return pid[1]
        if pid[0] != "storage" or not isinstance(pid[1], StorageType) or not isinstance(pid[4], int) or pid[4] < 0:
            raise ValueError("an unknown persistent id")
        storage = self.storage(pid[1], str(pid[2]), pid[4])
        if len(pid) > 5 and pid[5] is not None:
            _, offset, count = pid[5]
            size = storage.kind.size
            # Not a copy: at this point, the bytes may not have been read from the file yet.
            part = slice(offset * size, (offset + count) * size)
            return Storage(storage.kind, count, lambda: memoryview(storage.fetch())[part])
        return storage


def read(path: AnyPath) -> Any:
    """The content of a file of torch.save; tensors are on the CPU. Raises UserError for a damaged file, and for one
    with objects that are neither tensors nor plain values."""
    path = Path(path)
    try:
        with open(path, "rb") as file:
            zipped = file.read(4) == b"PK\x03\x04"
            file.seek(0)
            content, foreign = _read_zip(file) if zipped else _read_legacy(file)
    except MemoryError:  # the lengths stored in a damaged file may have any value
        found, hint = f"{path.stat().st_size} bytes", f"{DOWNLOAD_AGAIN}, or use a larger machine"
        raise UserError("damaged, or larger than the memory", where=path, found=found, hint=hint) from None
    except Exception as error:  # a damaged file can raise exceptions of almost any type here
        # EINVAL: an offset outside of the file, so the file is damaged
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        message = " ".join(str(error).split()) or type(error).__name__
        found = f"{path.stat().st_size} bytes, {message}"
        raise UserError("damaged PyTorch checkpoint", where=path, found=found, hint=DOWNLOAD_AGAIN) from None
    if foreign:
        raise _code_error(path, content, foreign)
    return content


def _read_zip(file: BinaryIO) -> tuple[Any, str]:
    with zipfile.ZipFile(file) as archive:
        pickles = [name for name in archive.namelist() if PurePosixPath(name).name == "data.pkl"]
        main = min((name for name in pickles if not name.startswith("__MACOSX/")), key=len)
        folder = main[: -len("data.pkl")]
        unread = set(archive.namelist())
        storages: dict[str, Storage] = {}

        def fetch(name: str) -> bytearray:
            unread.discard(name)
            return bytearray(archive.read(name))  # raises BadZipFile if its CRC is wrong

        def storage(kind: StorageType, key: str, count: int) -> Storage:
            name = f"{folder}data/{key}"
            found = storages.setdefault(key, Storage(kind, count, lambda: fetch(name)))
            return found if found.kind == kind else Storage(kind, count, found.fetch)

        order = f"{folder}byteorder"
        if (fetch(order) if order in unread else bytearray(sys.byteorder, "ascii")) != sys.byteorder.encode():
            raise ValueError("it was saved on a machine with another byte order")
        unpickler = Unpickler(io.BytesIO(fetch(main)), storage)
        content = unpickler.load()
        for name in unread:  # such as the state of an optimiser
            with archive.open(name) as member:
                while member.read(BLOCK):
                    pass
    return content, unpickler.foreign


def _read_legacy(file: BinaryIO) -> tuple[Any, str]:
    size = os.fstat(file.fileno()).st_size
    storages: dict[str, tuple[Storage, bytearray]] = {}

    def storage(kind: StorageType, key: str, count: int) -> Storage:
        if key not in storages:
            if count * kind.size > size:
                raise ValueError(f"a storage of {count * kind.size} bytes")
            content = bytearray(count * kind.size)  # filled below, since the file has the bytes after the pickles
            storages[key] = Storage(kind, count, lambda: content), content
        found = storages[key][0]
        return found if found.kind == kind else Storage(kind, count, found.fetch)

    for _ in range(2):  # magic number, protocol
        Unpickler(file, storage).load()
    machine = Unpickler(file, storage).load()
    if machine.get("little_endian", True) != (sys.byteorder == "little"):
        raise ValueError("it was saved on a machine with another byte order")
    unpickler = Unpickler(file, storage)
    content = unpickler.load()
    for key in Unpickler(file, storage).load():
        found, buffer = storages[str(key)]
        (count,) = struct.unpack("<q", file.read(8))
        if count * found.kind.size != len(buffer) or file.readinto(buffer) != len(buffer):  # type: ignore[attr-defined]
            raise ValueError("it ends within a storage")
        del storages[str(key)]
    if storages:
        raise ValueError("a storage is missing")
    return content, unpickler.foreign


Keys = tuple[object, ...]  # of a value in nested containers, outermost first


def walk(content: Any) -> Iterator[tuple[Keys, Any]]:
    """Yield `content` and all values in it, with their keys. Values in a StandIn have the keys of the StandIn."""
    seen: set[int] = set()
    stack: list[tuple[Keys, Any, bool]] = [((), content, False)]
    while stack:
        keys, value, inside = stack.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        yield keys, value
        if isinstance(value, dict):
            children = [(key, part) for key, part in value.items()]
            children += [(key, key) for key in value if isinstance(key, (StandIn, tuple))]
        elif isinstance(value, (list, tuple, set, frozenset)):
            children = list(enumerate(value))
        else:
            children = list(enumerate(value.parts)) if isinstance(value, StandIn) else []
        inside = inside or isinstance(value, StandIn)
        stack.extend((keys if inside else (*keys, key), part, inside) for key, part in reversed(children))


def join_keys(keys: Keys) -> str:
    return ".".join(map(str, keys))


def resave(path: AnyPath, keys: Keys, weights_only: bool = True) -> str:
    """A command that saves the value at `keys` of a checkpoint as a separate file. With `weights_only` False it may run
    code in the checkpoint."""
    output = f"{Path(path).with_suffix('')}.{'.'.join(map(str, keys))}.pth"
    inside = "".join(f"[{key!r}]" for key in keys)
    content = f"torch.load({str(path)!r}, map_location='cpu', weights_only={weights_only}){inside}"
    code = f"import torch; torch.save({content}, {output!r})"
    quoted = shlex.quote(code) if SPECIAL.search(code) else f'"{code}"'
    return f"{sys.executable} -c {quoted}"


def _code_error(path: Path, content: Any, name: str) -> UserError:
    """The error for a file with objects of other classes; `name`: the first of these classes."""
    keys = next((keys for keys, value in walk(content) if getattr(value, "name", None) == name), ())
    if not keys:
        what, hint = (
            "an object was saved instead of its weights",
            "in the program that saved the object, save only its weights: torch.save(net.state_dict(), …)",
        )
        return UserError(what, where=path, found=name, hint=hint)
    weights = next((keys for keys, inner in walk(content) if _is_state(inner)), ("state_dict",))
    hint = f"if you trust the file, save its weights alone: {resave(path, weights, False)}"
    return UserError("loading this pickle would run code", where=path, found=f"{join_keys(keys)}: {name}", hint=hint)


def _is_state(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(isinstance(each, torch.Tensor) for each in value.values())
