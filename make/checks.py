"""The format of each make variable, as one table; standard library only."""

from __future__ import annotations

from typing import NamedTuple

from hrnet import cann


class Check(NamedTuple):
    """The format of a value."""

    pattern: str
    expected: str


def one_of(*values: str) -> Check:
    return Check("|".join(values), f"one of {', '.join(values)}")


def optional(check: Check) -> Check:
    return Check(f"({check.pattern})?", f"empty, or {check.expected}")


PATH = Check(r"[A-Za-z0-9_./-]+", "a path of letters, digits and _-/. (ais_bench rejects others)")
FILE = Check(r"[A-Za-z0-9_./+=@~-]+", "a path of letters, digits and _-/.+=@~")
POSITIVE, COUNT = Check("[1-9][0-9]*", "an integer from 1"), Check("0|[1-9][0-9]*", "an integer from 0")
CHECKS = {
    **dict.fromkeys(("BUILD", "DATASET"), PATH),
    **dict.fromkeys(("OM", "PREP"), optional(PATH)),
    "CFG": optional(FILE),  # empty for make family
    **dict.fromkeys(("WEIGHTS", "ONNX", "TS", "PYTHON", "AIS_PYTHON"), FILE),
    **dict.fromkeys(("BATCH", "LOOP", "CALIB"), POSITIVE),
    **dict.fromkeys(("LIMIT", "MAX_REJECTED"), COUNT),
    "SHARDS": optional(POSITIVE),
    "SHARD": optional(Check("[1-9][0-9]*/[1-9][0-9]*", "a part, such as 3/16")),
    "BASE": optional(FILE),
    "KEEP": optional(one_of("1")),
    "REFERENCE": Check(f"({FILE.pattern})?", "empty, config, torch, onnx, or a metrics record"),
    "MODELS": Check(r"([A-Za-z0-9_.-]+(,[A-Za-z0-9_.-]+)*)?", "names of models separated by spaces"),
    "IMAGES": Check(
        r"[^\x00-\x08\x0e-\x1f'\"`$\\#]*",
        "paths without quotes, \\, # and $ (if a file name has them, give its directory)",
    ),
    "BATCHES": Check(r"[1-9][0-9]*(,[1-9][0-9]*)*", "integers from 1 separated by commas, such as 1,4,8"),
    "INPUT": one_of("float32", "uint8"),
    "PRECISION": one_of("default", "fp16", "fp32", "int8", "int8-minmax", "int8-percentile", "int8-entropy"),
    "KEEP_FLOAT": Check(f"({PATH.pattern})?", f"empty, auto, or a file with operators: {PATH.expected}"),
    "FLIP": one_of("0", "1"),
    "GATE": Check(r"[0-9]+([.][0-9]+)?|none", "percentage points, such as 1 or 0.5; or none to also accept NOT JUDGED"),
    "DEVICE": Check(r"(0|[1-9][0-9]*)(,(0|[1-9][0-9]*))*", "device ids separated by commas, such as 0 or 0,1"),
    "SOC": Check(cann.CHIP, cann.CHIP_TEXT),
    "ATC_FLAGS": Check(
        r"(--[A-Za-z0-9_-]+=[A-Za-z0-9_./:;,=+~@\[\]-]+( |$))*",
        "flags of atc separated by spaces, such as --op_select_implmode=high_precision",
    ),
    "BACKEND": one_of("auto", "ascend", "onnxruntime", "openvino", "torchscript", "torch_aie"),
    "TUNE": one_of("none", "aoe"),
    "HOST": Check(r"[A-Za-z0-9.:_-]+", "an address such as 127.0.0.1, or 0.0.0.0 for all networks"),
    "PORT": Check(
        "0|[1-9][0-9]{0,3}|[1-5][0-9]{4}|6([0-4][0-9]{3}|5([0-4][0-9]{2}|5([0-2][0-9]|3[0-5])))",
        "a port number from 0 to 65535, such as 8000 (0: any free port)",
    ),
    "BUNDLE": one_of("inputs", "stage"),
}
