"""Pack a compiled model, its inputs and the code for `make infer eval serve` on a board into one tar file.

    python -m make.bundle --output build/hrnet_w18/bundle/board.tar --cfg hrnet_w18 \\
        --model build/hrnet_w18/om/bs16-float32-Ascend310P3.om --inputs build/hrnet_w18/prep/imagenet-float32 \\
        --set BACKEND=ascend --set GATE=1

Reads    the model and its record, the directory of inputs (without --inputs the board preprocesses its own DATASET), a
         metrics record as --reference, the config, the Makefile and the code of the stages; for pose also the
         annotations, and the flipped inputs if ais_bench needs them
Writes   a tar of one directory: model/, prep/, data/annotations/, reference.json, and bundle.mk, which the Makefile
         includes and which sets OM, PREP, DATASET and REFERENCE

The same content gives the same bytes. The tar has no owners, and all times are in 1970: the clock of a board may start
in 1970, and make runs stages again if a file has a time in the future. The directory's name contains a digest of its
content, so that two bundles are never unpacked into one directory: make would not notice the new files, since the times
are equal. The tar is not compressed; for a slow connection to the board use `gzip` or `ssh -C`.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Optional, Union

from hrnet.cli import UserError, command, plural, progress
from hrnet.config import add_cfg_argument, load_config, named_files
from hrnet.hints import in_call
from hrnet.io.compiled import CompiledModel
from hrnet.io.files import FILE_MODE, FOLDER_MODE, check_free_disk, make_folder, replacing, sha256_file
from hrnet.io.manifest import Manifest
from infer.run import check_inputs
from make import bundle_help

TIME = 1  # modification time of all files, seconds since 1970
DIGITS = 12  # of the digest in the directory's name
DATASET = "data"  # directory of the annotations, in COCO's layout

REJECT_OTHERS = (
    "$(foreach goal,$(filter-out $(BUNDLE_TARGETS),$(MAKECMDGOALS)),$(if $(findstring /,$(goal)),,"
    "$(error make $(goal): not available in a bundle, which has the targets $(BUNDLE_TARGETS)$(STOPPED))))"
)
Source = Union[Path, bytes]
PYTHON_PACKAGES = ("numpy", "Pillow", "PyYAML", "tqdm", "yacs")
SERVE_PACKAGES = ("httptools", "prometheus-client", "starlette", "uvicorn", "uvloop")  # the extra `serve`


def settings_text(settings: dict[str, str], targets: Sequence[str]) -> str:
    """The text of bundle.mk: the defaults on the board, and a line that rejects other targets than `targets`. Values
    given to make there are remembered as usual."""
    model = settings["MODEL"]
    lines = "".join(f"{name} ?= {value}\n" for name, value in settings.items() if name != "MODEL")
    return (
        f"# Written by make bundle: defaults; give make a value to replace one.\nMODEL ?= {model}\n"
        f"BUILD ?= build\ninclude make/settings.mk\n{lines}"
        f"export BUNDLE_TARGETS := {' '.join(targets)}\n{REJECT_OTHERS}\n"
    )


def code_files() -> list[Path]:
    """The Makefile, and the code of the stages after `make om`, without the networks."""
    patterns = [
        "Makefile",
        "constraints.txt",
        "LICENSE",
        "make/*",
        "hrnet/*.py",
        "hrnet/*.c",
        "hrnet/io/*.py",
        "hrnet/pose/*.py",
        "hrnet/nets/__init__.py",
        "hrnet/nets/float32.py",
    ]
    patterns += ["preprocess/*.py", "infer/**/*.py", "postprocess/*.py", "serve/*.py", "serve/page.html"]
    return [path for pattern in patterns for path in sorted(Path().glob(pattern)) if path.is_file()]


def packages(runtime: Optional[str], pose: bool, preprocesses: bool) -> list[str]:
    """The Python packages that the board needs. `runtime`: the emulator's runtime, also the name of its package."""
    found = [*PYTHON_PACKAGES, *([runtime] if runtime else [])]
    if pose or preprocesses:
        found.append("opencv-python-headless")
    return found + (["pycocotools"] if pose else []) + (["simplejpeg"] if preprocesses else [])


def serve_packages(pose: bool, preprocesses: bool) -> list[str]:
    """The packages that `make serve` needs in addition, since it decodes and preprocesses images."""
    decoding = [name for name in packages(None, pose, True) if name not in packages(None, pose, preprocesses)]
    return [*decoding, *SERVE_PACKAGES]


def readme_text(name: str, model: str, prep: Optional[str], runtime: Optional[str], pose: bool) -> str:
    """The bundle's README: the commands for the board."""
    given = "" if prep else " DATASET=<directory>"
    stages = "infer eval" if prep else "preprocess infer eval"
    needs = "" if runtime else ", and ais_bench in the interpreter AIS_PYTHON (default: python3)"
    python = "python3" if runtime else "${AIS_PYTHON:-python3}"
    where = "" if runtime else " If AIS_PYTHON is another interpreter than `python3`, install all packages in both."
    inputs = (
        f"`{prep}` contains its inputs" if prep else "`make preprocess` writes its inputs from the images in DATASET"
    )
    return (
        f"# {name}, packed by `make bundle`\n\n"
        f"`{model}` is the compiled model; {inputs}. Requirements: Python 3.9 or later, GNU make 4.2 or later{needs}. "
        "torch and atc are not needed.\n\n"
        "```\n"
        f"python3 -m pip install -c constraints.txt {' '.join(packages(runtime, pose, not prep))}\n"
        f"make {stages}{given}\n"
        "make gate    # prints the verdict again\n"
        "```\n\n"
        "A model that passed its gate can be served over HTTP. `make serve` and `make predict` need more "
        f"packages.{where}\n\n"
        "```\n"
        f"{python} -m pip install -c constraints.txt {' '.join(serve_packages(pose, not prep))}\n"
        "make serve\n"
        "make predict IMAGES=photos/    # prints the result for images without labels\n"
        "```\n\n"
        "`bundle.mk` contains the settings. Give make a value to change one, for example `make eval GATE=0.5`. "
        "`make help` lists the targets and settings.\n"
    )


def collect_inputs(folder: Path, manifest: Manifest, target: str) -> tuple[dict[str, Source], dict[str, Source]]:
    """{name in the bundle: file} for the records of a directory of inputs, and for its inputs."""
    records: dict[str, Source] = {f"{target}/{name}": folder / name for name in ("settings.json", "manifest.json")}
    names = [f"{image.stem}.{manifest.suffix}" for image in manifest.images]
    return records, {f"{target}/{name}": folder / name for name in names}


def config_files(cfg: Path) -> dict[str, Source]:
    """{name in the bundle: file} for the config and the files that it names. Raises UserError if a file would be
    outside of the bundle."""
    files: dict[str, Source] = {f"configs/{cfg.name}": cfg}
    load_config(cfg)
    for file in named_files(cfg):
        name = os.path.normpath(os.path.join("configs", os.path.relpath(file, cfg.parent)))
        if name.startswith(os.pardir):
            raise UserError("cannot be packed", where=file, expected=f"a file below {cfg.parent}", hint="move it there")
        files[name] = file
    return files


def collect(args: argparse.Namespace) -> tuple[dict[str, Source], dict[str, Source]]:
    """Two dictionaries {name in the bundle: file or text}: the second has the inputs, the first everything else. Raises
    UserError if the model has no record, or if the inputs do not match the model."""
    compiled = CompiledModel.read(args.model)
    model, pose = f"model/{args.model.name}", bool(compiled.gears)
    settings = {"MODEL": args.cfg.stem, "PYTHON": "python3", "OM": model}
    files: dict[str, Source] = {path.as_posix(): path for path in code_files()}
    files.update(config_files(args.cfg))
    files[model] = args.model
    files[f"{model}.json"] = CompiledModel.record_path(args.model)
    inputs: dict[str, Source] = {}
    prep = None
    if args.inputs:
        prep = f"prep/{args.inputs.name}"
        manifest = Manifest.read(args.inputs / "manifest.json")
        check_inputs(args.inputs, manifest, args.model, compiled)
        records, inputs = collect_inputs(args.inputs, manifest, prep)
        files.update(records)
        settings["PREP"] = prep
        if args.inputs_flip:
            if Manifest.read(args.inputs_flip / "manifest.json") != manifest.flip():
                raise UserError(
                    "not the flipped images of --inputs", where=args.inputs_flip, hint="run make preprocess"
                )
            check_inputs(args.inputs_flip, manifest, args.model, compiled)
            records, flip_inputs = collect_inputs(args.inputs_flip, manifest, f"{prep}-flip")
            files.update(records)
            inputs.update(flip_inputs)
    if args.annotations:
        files[f"{DATASET}/annotations/{args.annotations.name}"] = args.annotations
        settings["DATASET"] = DATASET
    if args.reference:
        files["reference.json"] = args.reference
        settings["REFERENCE"] = "reference.json"
    settings.update(args.set or [])
    files["bundle.mk"] = settings_text(settings, bundle_help.target_names(not prep)).encode()
    sources = [path for path in files.values() if isinstance(path, Path) and path.name in ("Makefile", "project.mk")]
    files["help.txt"] = bundle_help.help_text(sources, settings, not prep, pose).encode()
    runtime = None if args.model.suffix == ".om" else settings.get("BACKEND", "onnxruntime")
    files["README.md"] = readme_text(args.cfg.stem, model, prep, runtime, pose).encode()
    return files, inputs


def digest(files: dict[str, Source]) -> str:
    """A digest of names and contents. It does not include the inputs, since settings.json and manifest.json identify
    them."""
    lines = []
    for name, source in sorted(files.items()):
        content = hashlib.sha256(source).hexdigest() if isinstance(source, bytes) else sha256_file(source)
        lines.append(f"{content} {name}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:DIGITS]


def entry(name: str, mode: int, kind: bytes = tarfile.REGTYPE, size: int = 0) -> tarfile.TarInfo:
    """The tar header of a file or directory, with the mode that ais_bench requires and without an owner."""
    info = tarfile.TarInfo(name)
    info.mode, info.type, info.size, info.mtime = mode, kind, size, TIME
    return info


def write_tar(path: Path, top: str, files: dict[str, Source]) -> int:
    """Write `files` below the directory `top`, sorted by path; return the size in bytes."""
    tree: dict[str, Optional[Source]] = {f"{top}/{name}": source for name, source in files.items()}
    tree.update({parent.as_posix(): None for name in list(tree) for parent in list(Path(name).parents)[:-1]})
    with replacing(path) as temporary:
        with tarfile.open(temporary, "w", format=tarfile.GNU_FORMAT) as archive:
            for name in progress(sorted(tree, key=lambda name: name.split("/")), unit="file"):
                source = tree[name]
                if source is None:
                    archive.addfile(entry(name, FOLDER_MODE, tarfile.DIRTYPE))
                else:
                    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
                        size = file.seek(0, io.SEEK_END)
                        file.seek(0)
                        archive.addfile(entry(name, FILE_MODE, size=size), file)
                archive.getmembers().clear()  # tarfile keeps all headers in memory
        return temporary.stat().st_size


def run(args: argparse.Namespace) -> None:
    """Write the archive."""
    files, inputs = collect(args)
    reason = bundle_help.doubt(args.metrics, CompiledModel.read(args.model).model_sha256)
    readme = files["README.md"]
    assert isinstance(readme, bytes)
    title, _, rest = readme.decode().partition("\n\n")
    files["README.md"] = "\n\n".join(filter(None, [title, bundle_help.warning(reason), rest])).encode()
    top = f"{args.output.stem}-{digest(files)}"
    everything = {**files, **inputs}
    need = sum(source.stat().st_size for source in everything.values() if isinstance(source, Path))
    check_free_disk(args.output.parent, need)
    make_folder(args.output.parent)
    size = write_tar(args.output, top, everything)
    packed = plural(len(inputs), "input") if inputs else "the preprocess stage"
    print(f"packed the model, {packed} and {len(files)} files into {args.output} ({size / 1e6:.1f} MB); on the board:")
    print(f"tar -xf {args.output.name} && cd {top} && cat README.md")
    if reason:
        hint = in_call("; make eval, here or on the board, judges it", os.environ)
        print(f"warning: this model {reason}{hint if reason == bundle_help.NOT_EVALUATED else ''}", file=sys.stderr)


def setting(text: str) -> tuple[str, str]:
    """An argparse type: `NAME=value`."""
    name, sign, value = text.partition("=")
    if not (name and sign):
        raise argparse.ArgumentTypeError(f"expected NAME=value, found {text!r}")
    return name, value


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m make.bundle", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="the tar file to write")
    add_cfg_argument(parser)
    parser.add_argument("--model", type=Path, required=True, help="the compiled model, with its record beside it")
    parser.add_argument(
        "--inputs", type=Path, help="directory of inputs; without it the board preprocesses its DATASET"
    )
    parser.add_argument("--inputs_flip", type=Path, help="directory of flipped inputs, for ais_bench")
    parser.add_argument("--annotations", type=Path, help="pose: COCO annotations, for AP")
    parser.add_argument("--reference", type=Path, help="metrics record to compare the board's result with")
    parser.add_argument("--metrics", type=Path, help="the host's metrics record of the model, for a warning")
    parser.add_argument("--set", type=setting, action="append", metavar="NAME=value", help="a make variable")
    return parser.parse_args(argv)


@command
def main(argv: Optional[list[str]] = None) -> None:
    run(parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
