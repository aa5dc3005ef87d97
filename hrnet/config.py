"""Model configs: the yacs keys of upstream's experiment files, plus our own, checked against a strict schema.

Upstream's files, such as `cls_hrnet_w18_sgd_lr5e-2_wd1e-4_bs32_x100.yaml` or `w32_512_adam_lr1e-3.yaml`, load
unchanged. MODEL.NAME selects the schema in hrnet/schemas.py. An unknown key is an error, also below MODEL.EXTRA, where
upstream accepts any key.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import hashlib
import json
import logging
import math
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Optional

import yaml
from yacs.config import CfgNode

from hrnet.cli import UserError
from hrnet.config_checks import as_list, check_values
from hrnet.gears import read_gears
from hrnet.hints import nearest
from hrnet.io.files import AnyPath
from hrnet.schemas import CLASSIFICATION, IGNORED, ONNX, POSE, SCHEMAS
from hrnet.yaml_file import NO_COLON, read_yaml

CONFIGS = Path(os.path.relpath(Path(__file__).resolve().parent.parent / "configs"))

TYPES = {int: "an integer", float: "a number", str: "text", bool: "true or false", list: "a list", tuple: "a list"}
LARGEST = 2**31 - 1  # largest number in a config
NAMED_FILES = ("GEARS", "CLASS_NAMES")  # keys of INPUT whose value may be the path of a file

# All of upstream's classification files have a misspelt key (NUM_RANCHES); yacs would warn each time.
logging.getLogger("yacs.config").setLevel(logging.ERROR)


def config_path(model: str) -> Path:
    """The path of a model's YAML file. `model`: a name in `configs/`, or a path that ends in .yaml or .yml."""
    return Path(model) if model.endswith((".yaml", ".yml")) else CONFIGS / f"{model}.yaml"


def add_cfg_argument(parser: argparse.ArgumentParser, default: Optional[str] = None) -> None:
    """Add `--cfg`, with the same meaning in all scripts that have it; its value is the Path of a YAML file."""
    text = "model: a name in configs/, or the path of a YAML file" + (" (%(default)s)" if default else "")
    parser.add_argument("--cfg", type=config_path, required=default is None, default=default, help=text)


def load_config(path: AnyPath, *kinds: str, complete: bool = True) -> CfgNode:
    """Read a model's YAML file. Missing keys get the defaults of the schema for its MODEL.NAME (classification if there
    is none). The result is frozen. `kinds`: values of MODEL.NAME that the caller accepts (default: all). `complete`:
    for an ONNX classifier, require the values that `atc.classifier` adds.

    Raises UserError if the file is missing, not a YAML mapping or of another kind, and for unknown keys, wrong types
    and invalid or inconsistent values.
    """
    path = Path(path)
    if not path.is_file():
        known = sorted(file.stem for file in path.parent.glob("*.yaml"))
        near = nearest(path.stem, known)
        hint = f"did you mean {near}?" if near else f"known configs there: {', '.join(known) or 'none'}"
        raise UserError("no such config", where=path, hint=hint)
    values = read_yaml(path)
    schema = _schema(values, path, kinds or tuple(SCHEMAS))
    ignored = []
    for name, value in _check_keys(values, schema, path, ""):
        if name in IGNORED[schema.MODEL.NAME]:
            ignored.append(name)
        elif value is None:
            raise UserError(f"{name} has no value", where=path, hint="leave the key out to use its default")
    if ignored:
        print(f"{path}: keys without effect here: {', '.join(ignored)}", file=sys.stderr)
    _read_named_files(values, schema, path)
    try:
        schema.merge_from_other_cfg(CfgNode(values))
    except (ValueError, KeyError) as error:
        raise UserError(" ".join(str(error.args[0]).split()), where=path) from None
    check_values(schema, path)
    if complete and schema.MODEL.NAME == ONNX and not is_complete(schema):
        script = f"{sys.executable} -m atc.classifier --cfg {path} --model <file> --output <YAML>"
        hint = f"make eval CFG={path} ONNX=<file>, or {script}"
        what = "incomplete config of an ONNX classifier"
        raise UserError(what, where=path, expected="MODEL.IMAGE_SIZE, MODEL.NUM_CLASSES and INPUT.RESIZE", hint=hint)
    schema.freeze()
    return schema


def is_complete(config: CfgNode) -> bool:
    """Whether the config of an ONNX classifier has the values that `atc.classifier` adds."""
    return bool(config.MODEL.IMAGE_SIZE and config.MODEL.NUM_CLASSES and config.INPUT.RESIZE)


def _schema(values: dict[str, Any], path: Path, known: tuple[str, ...]) -> CfgNode:
    """The schema for the config's MODEL.NAME."""
    model = values.get("MODEL")
    if "MODEL" in values and not isinstance(model, dict):
        raise _not_a_mapping("MODEL", model, path)
    name = model.get("NAME", CLASSIFICATION) if model else CLASSIFICATION
    if name not in known:
        hint = None if model and "NAME" in model else f"the config has no MODEL.NAME, which means {name}"
        raise UserError("invalid MODEL.NAME", where=path, expected=" or ".join(known), found=name, hint=hint)
    return SCHEMAS[name]()


def _check_keys(values: dict[str, Any], schema: CfgNode, path: Path, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield the full names and values of all keys in the file. Converts an integer, also in quotes, to float where the
    schema has a float (`LR: 1`), which yacs does not do. Raises UserError for unknown keys and for values of
    unsupported types."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if schema.key_is_deprecated(name) or name == "MODEL.EXTRA.STAGE1.NUM_RANCHES":
            continue
        if key not in schema:
            near = nearest(str(key), schema)
            hint = f"did you mean {prefix}{near}?" if near else f"known keys there: {', '.join(sorted(schema))}"
            raise UserError(f"unknown key {name}", where=path, hint=hint)
        default = schema[key]
        if isinstance(default, CfgNode):
            if not isinstance(value, dict):
                raise _not_a_mapping(name, value, path)
            yield from _check_keys(value, default, path, f"{name}.")
            continue
        if not _is_plain(value):
            expected = f"numbers up to {LARGEST}, text, true, false, or lists of them"
            raise UserError(f"invalid {name}", where=path, expected=expected, found=repr(value)[:80])
        read = _as_yacs_reads(value)
        if isinstance(default, float) and isinstance(read, int) and not isinstance(read, bool):
            value = values[key] = float(read)
        _check_type(name, value, default, path)
        yield name, value


def _not_a_mapping(name: str, value: Any, path: Path) -> UserError:
    hint = NO_COLON if isinstance(value, str) and ":" in value else None
    return UserError(f"{name} is not a mapping", where=path, expected="keys with values", found=repr(value), hint=hint)


def _check_type(name: str, value: Any, default: Any, path: Path) -> None:
    """Raise UserError for a value whose type is not that of the default. null, and the path of a file in INPUT, are
    read elsewhere."""
    of_file = name in [f"INPUT.{key}" for key in NAMED_FILES] and isinstance(value, str)
    expected = TYPES.get(type(default))
    if value is None or expected is None or of_file or TYPES.get(type(_as_yacs_reads(value))) == expected:
        return
    key = name.rpartition(".")[2]
    hint = as_list(key, value) if expected == TYPES[list] else None
    hint = hint or (f"write {key}: {_as_yaml(default)}, or another value" if default else None)
    raise UserError(f"invalid {name}", where=path, expected=expected, found=repr(value)[:80], hint=hint)


def _as_yacs_reads(value: Any) -> Any:
    """The value of text that is a literal of Python, such as `(0,)` or `1e-3` in upstream's files; other values
    unchanged."""
    with contextlib.suppress(ValueError, SyntaxError):
        return ast.literal_eval(value) if isinstance(value, str) else value
    return value


def _as_yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=math.inf).partition("\n...")[0].strip()


def named_files(path: AnyPath) -> list[Path]:
    """The paths of the files that INPUT of a valid config names. Names in the config are relative to its directory."""
    values = read_yaml(Path(path)).get("INPUT", {})
    return [Path(path).parent / values[key] for key in NAMED_FILES if isinstance(values.get(key), str)]


def _read_named_files(values: dict[str, Any], schema: CfgNode, path: Path) -> None:
    """Replace the paths in INPUT.GEARS and INPUT.CLASS_NAMES, relative to the config, by the content of the files."""
    given = values.get("INPUT", {})
    if isinstance(given.get("GEARS"), str):
        short = values.get("DATASET", {}).get("INPUT_SIZE", schema.DATASET.INPUT_SIZE)
        given["GEARS"] = [list(gear) for gear in read_gears(path.parent / given["GEARS"], short)]
    if isinstance(given.get("CLASS_NAMES"), str):
        given["CLASS_NAMES"] = _read_class_names(path.parent / given["CLASS_NAMES"])


def _read_class_names(path: Path) -> list[str]:
    """Read the names of classes, one per line in the order of their indices. Raises UserError for a missing file, text
    that is not UTF-8, and an empty or unprintable line."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UserError("no such file of class names", where=path, hint="fix INPUT.CLASS_NAMES in the config") from None
    except UnicodeDecodeError:
        raise UserError("class names are not UTF-8 text", where=path) from None
    if not lines:
        raise UserError("an empty file", where=path, expected="one name of a class per line")
    names = [line.strip() for line in lines]
    for number, name in enumerate(names, 1):
        if not name or not name.isprintable():
            raise UserError(f"invalid line {number}", where=path, expected="the name of a class", found=repr(name)[:80])
    return names


def _is_plain(value: Any, depth: int = 2) -> bool:
    """Whether a YAML value is null, text, a boolean, a number up to LARGEST, or a list of them (up to `depth` deep)."""
    if isinstance(value, (list, tuple)):
        return depth > 0 and all(_is_plain(each, depth - 1) for each in value)
    if isinstance(value, (int, float)):
        return abs(value) <= LARGEST
    return value is None or isinstance(value, str)


def config_sha256(config: CfgNode) -> str:
    """Hash of the keys that define the model and its input: MODEL and INPUT, and for pose also DATASET.INPUT_SIZE and
    LOSS.WITH_AE_LOSS. Training keys, such as the learning rate, and the names of the classes are not included."""
    content = {"MODEL": _plain(config.MODEL), "INPUT": _plain(config.INPUT)}
    content["INPUT"].pop("CLASS_NAMES", None)
    if config.MODEL.NAME == POSE:
        content["DATASET"] = {"INPUT_SIZE": config.DATASET.INPUT_SIZE}
        content["LOSS"] = {"WITH_AE_LOSS": list(config.LOSS.WITH_AE_LOSS)}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def check_same_config(
    metadata: Mapping[str, str], sha256: str, cfg: Path, where: AnyPath, what: str, hint: str
) -> None:
    """Raise UserError if a model's metadata has another config hash than `sha256`, that of `cfg`. `hint`: for a config
    with another name; if `cfg` was edited after the export, the error reports that instead."""
    if metadata.get("config_sha256", sha256) == sha256:
        return
    found = metadata.get("model")
    if found == cfg.stem:
        found = f"{found} with other values"
        hint = f"restore {cfg}, or export and compile the model again"
    raise UserError(what, where=where, expected=cfg, found=found, hint=hint)


def _plain(node: Any) -> Any:
    return {key: _plain(value) for key, value in node.items()} if isinstance(node, dict) else node
