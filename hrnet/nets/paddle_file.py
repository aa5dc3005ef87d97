"""Read files of `paddle.save` (`.pdparams`) without PaddlePaddle and without running the code in them.

A file is one pickle of protocol 2, 3 or 4: a dictionary of names and NumPy arrays, and `StructuredToParameterName@@`, a
table of the names that the parameters have inside PaddlePaddle. An array that is too large for the pickle is saved as
one-dimensional parts `<name>@@.0`, `<name>@@.1`, …, and `UnpackBigParamInfor@@` describes them. Tensors in a nested
dictionary are saved as pairs of a name and an array. bfloat16 is saved as uint16. Format:
https://github.com/PaddlePaddle/Paddle python/paddle/framework/io.py and io_utils.py, release 3.2.2.

The pickle can only call the few functions in `FUNCTIONS`, which build only dictionaries, tuples and unconverted arrays.
Arrays are converted after the pickle has been read, when only the dictionary refers to their bytes, so that the file is
never in memory twice.
"""

from __future__ import annotations

import errno
import math
import pickle
from pathlib import Path
from typing import Any, Callable, ClassVar, Optional, Union

import torch

from hrnet.cli import UserError
from hrnet.io.files import AnyPath
from hrnet.io.recognise import DOWNLOAD_AGAIN, PADDLE
from hrnet.nets.torch_file import walk

PARTS = "UnpackBigParamInfor@@"  # an entry that describes the arrays in parts; Paddle's spelling
DTYPES = {
    **{"f2": torch.float16, "f4": torch.float32, "f8": torch.float64, "u2": torch.bfloat16},
    **{"i1": torch.int8, "i2": torch.int16, "i4": torch.int32, "i8": torch.int64, "u1": torch.uint8},
}
MAX_DIMENSIONS = 32  # of a NumPy array, before NumPy 2
SAVE_AGAIN = (
    "if you trust the file, load it in PaddlePaddle and save its weights alone: paddle.save(net.state_dict(), …)"
)


class Unsupported(Exception):
    """The file may be intact, but contains an object that this reader does not support. Arguments: the text of the
    error, and the name of the object."""


class Function:
    """Replaces a function of another module. The pickle can call it, but cannot change it."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __setstate__(self, state: Any) -> None:
        raise ValueError("a function with a state")


class DType:
    """Replaces numpy.dtype. `code`: kind and size in bytes, such as "f4"."""

    __slots__ = ("code",)

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str) or code not in DTYPES:
            raise Unsupported("unsupported type of an array", code)
        self.code = code

    def __setstate__(self, state: Any) -> None:
        """`state`: version, byte order, then values that only structured types and strings have."""
        if state[1] not in ("<", "|"):
            raise Unsupported("unsupported byte order of an array", state[1])


class Array:
    """Replaces numpy.ndarray. `content`: its bytes, or text in latin-1, since pickle protocol 2 stores bytes as
    text."""

    __slots__ = ("content", "dtype", "fortran", "shape")

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        sizes = isinstance(shape, tuple) and all(type(size) is int and size >= 0 for size in shape)
        if not sizes or len(shape) > MAX_DIMENSIONS or not isinstance(dtype, DType):
            raise ValueError("an array without shape or type")
        expected = math.prod(shape) * int(dtype.code[1])
        if not isinstance(content, (bytes, str)) or len(content) != expected:
            found = f"{len(content)} bytes" if isinstance(content, (bytes, str)) else type(content).__name__
            raise ValueError(f"an array of {expected} bytes that has {found}")
        self.shape, self.dtype, self.fortran, self.content = shape, DTYPES[dtype.code], bool(fortran), content

    def tensor(self) -> torch.Tensor:
        content: Union[bytes, str] = self.content
        buffer = bytearray(content, "latin-1") if isinstance(content, str) else bytearray(content)
        if not buffer:  # torch.frombuffer rejects it
            return torch.empty(self.shape, dtype=self.dtype)
        flat = torch.frombuffer(buffer, dtype=self.dtype)
        if self.fortran:  # the first axis changes fastest
            return flat.reshape(self.shape[::-1]).permute(*reversed(range(len(self.shape))))
        return flat.reshape(self.shape)


def _reconstruct(kind: Any, *_: Any) -> Array:
    """Replaces numpy.core.multiarray._reconstruct: an array without content, which the pickle sets next."""
    if kind is not NDARRAY:
        raise ValueError("an array of another class")
    return Array()


def _encode(text: Any, encoding: Any) -> str:
    """Replaces _codecs.encode, but does not copy: `Array` also accepts text."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError(f"text in {encoding}")
    return text


def _reject_call(*_: Any) -> Any:
    raise ValueError("an array that was not saved by numpy")


NDARRAY = Function(_reject_call)
FUNCTIONS = {
    "numpy.ndarray": NDARRAY,
    "numpy.dtype": Function(DType),
    **{f"numpy.{core}multiarray._reconstruct": Function(_reconstruct) for core in ("", "core.", "_core.")},
    "_codecs.encode": Function(_encode),
    **{f"{module}.tuple": Function(tuple) for module in ("builtins", "__builtin__")},
    "collections.OrderedDict": Function(dict),
}
PROTOCOL_5 = (
    b"\x96\x97\x98"  # its opcodes: paddle.save never writes them, and the first one can allocate any amount of memory
)


class Unpickler(pickle._Unpickler):  # a damaged file could make the one in C allocate any amount of memory
    dispatch: ClassVar[dict[int, Any]] = {
        code: load for code, load in pickle._Unpickler.dispatch.items() if code not in PROTOCOL_5
    }

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full not in FUNCTIONS:
            raise Unsupported("loading this pickle would run code", full)
        return FUNCTIONS[full]


def read(path: AnyPath) -> Any:
    """The content of a file of paddle.save, with PaddlePaddle's names; tensors are on the CPU. Raises UserError for a
    damaged file, and for one with objects that are neither arrays nor plain values."""
    path = Path(path)
    size = path.stat().st_size
    try:
        content = _load(path)
        for _, value in walk(content):
            if isinstance(value, dict):
                for key, each in value.items():
                    array = _array_of(each)
                    if array is not None:
                        value[key] = array.tensor()
                    del each, array  # before the next one is converted
        if isinstance(content, dict):
            content.pop(PADDLE, None)
            _join(content)
    except Unsupported as error:
        what, name = error.args
        raise UserError(what, where=path, found=name, hint=SAVE_AGAIN) from None
    except MemoryError:  # a damaged file may contain any length
        hint = f"{DOWNLOAD_AGAIN}, or use a larger machine"
        raise UserError("damaged, or larger than the memory", where=path, found=f"{size} bytes", hint=hint) from None
    except Exception as error:  # a damaged file can raise exceptions of almost any type here
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        message = " ".join(str(error).split()) or type(error).__name__
        what, found = "damaged PaddlePaddle file", f"{size} bytes, {message}"
        raise UserError(what, where=path, found=found, hint=DOWNLOAD_AGAIN) from None
    return content


def _load(path: Path) -> Any:
    with open(path, "rb") as file:
        content = Unpickler(file, encoding="latin1").load()  # latin1 keeps the bytes of Python 2's strings
        if file.read(1):
            raise ValueError("data after its end")
    return content


def _array_of(value: Any) -> Optional[Array]:
    """The array in a value of a dictionary: the value, or the second of a pair of a name and an array; else None."""
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
        value = value[1]
    return value if isinstance(value, Array) else None


def _join(content: dict[Any, Any]) -> None:
    """Replace the parts of each large array by one tensor."""
    for name, entry in content.pop(PARTS, {}).items():
        parts = [content.pop(part) for part in entry["slices"]]
        content[name] = torch.cat(parts).reshape(entry["OriginShape"])
