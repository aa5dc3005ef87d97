"""What the value of each make variable must look like, as one table; standard library only."""

from __future__ import annotations

from typing import NamedTuple

from hrnet import cann


class Check(NamedTuple):
    """What a value must look like."""

    pattern: str
    expected: str


def one_of(*values: str) -> Check:
    return Check("|".join(values), f"one of {', '.join(values)}")


def optional(check: Check) -> Check:
    return Check(f"({check.pattern})?", f"nothing, or {check.expected}")


PATH = Check(r"[A-Za-z0-9_./-]+", "a path of letters, digits and _-/. (ais_bench accepts no others)")
FILE = Check(r"[A-Za-z0-9_./+=@~-]+", "a path of letters, digits and _-/.+=@~")
POSITIVE, COUNT = Check("[1-9][0-9]*", "an integer from 1"), Check("0|[1-9][0-9]*", "an integer from 0")
CHECKS = {
    **dict.fromkeys(("BUILD", "DATASET"), PATH),
    **dict.fromkeys(("OM", "PREP"), optional(PATH)),
    **dict.fromkeys(("CFG", "WEIGHTS", "ONNX", "TS", "PYTHON", "AIS_PYTHON"), FILE),
    **dict.fromkeys(("BATCH", "LOOP"), POSITIVE),
    **dict.fromkeys(("LIMIT", "MAX_REJECTED"), COUNT),
    "SHARDS": optional(POSITIVE),
    "SHARD": optional(Check("[1-9][0-9]*/[1-9][0-9]*", "a part, such as 3/16")),
    "KEEP": optional(one_of("1")),
    "REFERENCE": Check(f"({FILE.pattern})?", "nothing, config, torch, onnx, or a metrics file"),
    "BATCHES": Check(r"[1-9][0-9]*(,[1-9][0-9]*)*", "integers from 1 separated by commas, such as 1,4,8"),
    "INPUT": one_of("float32", "uint8"),
    "PRECISION": one_of("default", "fp16", "fp32"),
    "FLIP": one_of("0", "1"),
    "GATE": Check(r"[0-9]+([.][0-9]+)?|none", "percentage points, such as 1 or 0.5; or none: also accept no verdict"),
    "DEVICE": Check(r"(0|[1-9][0-9]*)(,(0|[1-9][0-9]*))*", "device ids separated by commas, such as 0 or 0,1"),
    "SOC": Check(cann.CHIP, cann.CHIP_TEXT),
    "ATC_FLAGS": Check(
        r"(--[A-Za-z0-9_-]+=[A-Za-z0-9_./:;,=+~@\[\]-]+( |$))*",
        "flags of atc such as --keep_dtype=ops.cfg, with a space between two",
    ),
    "BACKEND": one_of("auto", "ascend", "onnxruntime", "openvino", "torchscript", "torch_aie"),
    "TUNE": one_of("none", "aoe"),
    "BUNDLE": one_of("inputs", "stage"),
}
