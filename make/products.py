"""The parts of the names of products; standard library only."""

from __future__ import annotations

from pathlib import Path

from make.call import EXTENSIONS, NPU_BACKENDS, Options, float_operators
from make.classifier import completed


def product_names(options: Options) -> dict[str, str]:
    """{name: value} of variables for make, among them parts of product names:

    SET      the inputs that `make preprocess` writes
    NAME     the inputs that are used: SET, or with PREP the name of its directory. docs/ writes NAME as <SET> in paths
    TARGET   what the model is compiled for
    TAG      backend and model
    """
    value = options.values
    chip = value["BACKEND"] in NPU_BACKENDS
    precision = value["PRECISION"] if chip else value["PRECISION"].replace("default", "fp32")
    parts = [precision]
    if chip:
        parts = [value["SOC"], *(part for part in (precision, value["TUNE"]) if part not in ("default", "none"))]
    keep_precision, kept = float_operators(options)
    target = "-".join([*parts, *([kept] if kept else [])])
    method = value["PRECISION"].partition("-")[2]
    limit = f"-first{value['LIMIT']}" if value["LIMIT"] != "0" else ""
    inputs = f"{Path(value['DATASET']).name}-{value['INPUT']}{limit}"
    name = Path(value["PREP"]).name or inputs
    tag = f"om-{Path(value['OM']).stem}" if value["OM"] else f"bs{value['BATCH']}-{target}"
    flips = "1" if options.pose and value["FLIP"] == "1" else ""
    pack_inputs = "1" if value["BUNDLE"] == "inputs" else ""
    devices = value["DEVICE"].replace(",", "-")
    bench = f"{value['BACKEND']}-{target}{'' if value['INPUT'] == 'float32' else '-' + value['INPUT']}-dev{devices}"
    return {
        "CFG": completed(options),
        "CFG_GIVEN": value["CFG"],
        "CLASS_NAMES": options.class_names,
        "TASK": "pose" if options.pose else "classification",
        "POSE": "1" if options.pose else "",
        "FLIPS": flips,
        "FLIP_DIR": "1" if flips and value["BACKEND"] == "ascend" else "",
        "NOFLIP": "-noflip" if options.pose and not flips else "",
        "SHARDED": "1" if value["SHARDS"] != "1" or value["SHARD"] or options.goals & {"merge", "cluster"} else "",
        "ANNOTATIONS": str(options.annotations) if options.pose else "",
        "PRECISION": precision,
        "EXT": EXTENSIONS.get(value["BACKEND"], ".onnx"),
        "METHOD": method,
        "KEEP_PRECISION": keep_precision,
        "INT8_VARIANT": "-".join(filter(None, [method, kept])) if value["PRECISION"].startswith("int8") else "",
        "CHIP": value["SOC"] if chip else "",
        "TARGET": target,
        "SET": inputs,
        "NAME": name,
        "TAG": f"{value['BACKEND']}-{tag}",
        "BENCH": bench,
        "QPS": f"{value['BACKEND']}-{target}-qps",
        "PACK_INPUTS": pack_inputs,
        "PACKED": name if pack_inputs else "stage",
    }
