"""What ran: model, weights, chip, precision, tools, machine, and the commands, from the records of the stages."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any, Optional

from hrnet.io.compiled import CompiledModel
from hrnet.io.files import sha256_file
from hrnet.io.quantized import QuantizedModel
from hrnet.io.records import FormatError, from_json, read_record
from hrnet.io.torchscript import PRECISION as TORCHSCRIPT_PRECISION
from hrnet.keep_float import PRECISION
from report.run import Run
from report.sources import Source, Sources

LONGEST = 4000  # characters of a command: amct_onnx may get many files


def compiled_record(run: Run, sources: Sources, model: Optional[Path]) -> Optional[Source]:
    """The record of the compiled model; None if it no longer exists, or if it now describes another model."""
    if model is None or not model.is_file():
        return None
    found = sources.typed(Path(f"{model}.json"), lambda _: CompiledModel.read(model), "compiled")
    same = found and found.content["model_sha256"] == run.metrics.content["evaluated"]["model_sha256"]
    return found if same else None


def machine_of(run: Run, sources: Sources) -> Optional[Source]:
    """A record of this model that describes the machine, or None."""
    for folder, kind in (("bench", "bench"), ("precision", "precision")):
        for found in sources.records(run.build / folder, "*.json", kind):
            if "machine" in found.content:
                return found
    return None


def commands(run: Run, sources: Sources, compiled: Optional[Source]) -> list[tuple[str, str, Optional[Source]]]:
    """(name of the step, the command, the record that contains it), in the order of the stages."""
    found: list[tuple[str, str, Optional[Source]]] = []
    remembered = {name: value for name, value in run.remembered().items() if value}
    allowed = run.metrics.content["gate"]["allowed_points"]
    remembered |= {"GATE": f"{allowed:g}"} if allowed != 1 else {}  # make does not remember it
    found.append(("all stages", run.make("eval", **remembered), None))
    if quantized := quantized_record(run, sources, compiled):
        found.append(("quantize", shlex.join(quantized.content["command"]), quantized))
    if compiled and compiled.content["command"]:
        found.append(("compile", shlex.join(compiled.content["command"]), compiled))
    ran = sources.record(run.run_record, "run")
    if ran and ran.content.get("model_sha256") == run.metrics.content["evaluated"]["model_sha256"]:
        found.append(("infer", shlex.join(ran.content["command"]), ran))
    return [(name, text[:LONGEST], source) for name, text, source in found]


def quantized_record(run: Run, sources: Sources, compiled: Optional[Source]) -> Optional[Source]:
    """The record of the int8 model that was compiled; None if there is none, or if it was quantized again since."""
    if compiled is None:
        return None
    content = compiled.content
    for path in sorted((run.build / "int8").glob("**/model_deploy_model.onnx.json")):
        record: QuantizedModel = from_json(QuantizedModel, read_record(path, "quantized"), path, "record")
        same = record.source_sha256 == content["source_sha256"] and (
            record.metadata().items() <= content["metadata"].items()
        )
        if same and f"--model={path.with_suffix('')}" in content["command"]:
            return sources.record(path, "quantized")
    return None


def precision(run: Run) -> str:
    """The precision inside the compiled model, such as `fp32`. If the model's metadata lacks it: the end of TAG, or
    with OM= the whole TAG."""
    metadata = run.metrics.content["model"]
    if known := metadata.get(PRECISION) or metadata.get(TORCHSCRIPT_PRECISION):
        return str(known)
    tag = run.tag.removesuffix(run.noflip)
    match = re.fullmatch(r"[a-z_]+-bs[0-9]+-(.*)", tag)
    return match[1] if match else tag


def chip(run: Run, compiled: Optional[Source]) -> str:
    """The NPU that computed the outputs, or `none: …` if no NPU was used."""
    words = compiled.content["command"] if compiled else []
    target = next((word.partition("=")[2] for word in words if word.startswith("--soc_version=")), "")
    tool = str(run.metrics.content["tool"])
    if on_npu(run):  # the tool of Torch-AIE is `torch_aie 6.3 on Ascend310P3`
        return target or tool.partition(" on ")[2] or "an NPU; no record names the chip"
    return f"none: {tool} computed the outputs{f'; compiled for {target}' if target else ''}"


def on_npu(run: Run) -> bool:
    return str(run.metrics.content["tool"]).startswith(("ais_bench", "torch_aie", "mindie"))


def weights_path(run: Run) -> str:
    """The checkpoint that make remembers, if it is the one that was evaluated; else empty."""
    path = Path(run.remembered().get("WEIGHTS", f"weights/{run.build.name}.pth"))
    same = path.is_file() and sha256_file(path) == run.metrics.content["model"].get("weights_sha256")
    return str(path) if same else ""


def onnx_file(run: Run, compiled: Optional[Source]) -> dict[str, str]:
    """SHA-256 and path of the ONNX file that was compiled, if the run's checkpoint is unknown; the path is empty unless
    make remembers the same file. Without the record of the compiled model, both are empty."""
    if compiled is None or run.metrics.content["model"].get("weights_sha256"):
        return {"sha256": "", "path": ""}
    sha256, path = compiled.content["source_sha256"], Path(run.remembered().get("ONNX", ""))
    return {"sha256": sha256, "path": str(path) if path.is_file() and sha256_file(path) == sha256 else ""}


def config_hash(run: Run, sources: Sources) -> tuple[str, Optional[Source]]:
    """config_sha256 of the run's config, and the file that contains it. If make onnx exported the model,
    the hash is in the metrics, and the file is None. Otherwise it is in the manifest or in the record of a part; empty
    if these now belong to another run."""
    content = run.metrics.content
    if known := content["model"].get("config_sha256"):
        return known, None
    evaluated = content["evaluated"]
    parts = run.path.with_suffix("") / "parts"
    records = [(run.inputs / "manifest.json", "manifest", evaluated.get("manifest_sha256"))]
    records += [(parts / name, "part", sha256) for name, sha256 in evaluated.get("parts", {}).items()]
    for path, kind, sha256 in records:
        if path.is_file() and sha256_file(path) == sha256:
            return str(read_record(path, kind)["config_sha256"]), sources.file(path)
    return "", None


def section(run: Run, sources: Sources, model: Optional[Path], cfg: Path) -> dict[str, Any]:
    """The values for the template."""
    compiled = compiled_record(run, sources, model)
    sha256, record = config_hash(run, sources)
    exported = sources.record(run.build / "model.onnx.json", "export")
    if exported and compiled and compiled.content["metadata"].get("int8.tool") is None:
        same = exported.content["model_sha256"] == compiled.content["source_sha256"]
        exported = exported if same else None
    return {
        "compiled": compiled,
        "exported": exported,
        "machine": machine_of(run, sources),
        "commands": commands(run, sources, compiled),
        "precision": precision(run),
        "chip": chip(run, compiled),
        "npu": on_npu(run),
        "config": sources.file(cfg),
        "config_sha256": sha256,
        "config_record": record,
        "weights": weights_path(run),
        "onnx": onnx_file(run, compiled),
        "weights_url": run.config.get("WEIGHTS", {}).get("URL", ""),
    }


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects in a file of JSON lines. Raises FormatError."""
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError:
        raise FormatError("not lines of JSON", where=path, hint=f"rm {path}") from None
