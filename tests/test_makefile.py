"""The Makefile: values that are given to it and rejected, what a dry run prints, and its help."""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hrnet.code import import_closure
from tests.support import ROOT
from tests.support.checkout import Checkout


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("sources"))


@pytest.fixture
def checkout(sources: Checkout) -> Iterator[Checkout]:
    """A checkout without build/. All tests share it. After each test build/ is removed; a test must not change files
    outside of build/ that other tests read."""
    yield sources
    shutil.rmtree(sources.root / "build", ignore_errors=True)


@pytest.mark.parametrize("name", ["KEEP_FLOAT", "REFERENCE", "SHARDS", "ATC_FLAGS", "BATCH"])
def test_an_empty_value_is_accepted_if_given_or_remembered(checkout: Checkout, name: str) -> None:
    given = ["DATASET=weights", "BACKEND=onnxruntime"]
    for words in ([*given, f"{name}="], given):
        done = checkout.make("-n", "clean", *words)
        assert done.returncode == 0, done.stdout + done.stderr
        settings = checkout.root / "build/demo_digits/settings" / f"{name}.mk"
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text(f"{name} ?= \n")


def test_a_file_that_another_run_wrote_is_kept_if_the_stage_fails(checkout: Checkout) -> None:
    """Another run writes the file while the stage runs, and the stage fails because of this. The file is then newer
    than the start of the stage, but make does not remove it."""
    product = checkout.root / "build/demo_digits/model.onnx"
    product.parent.mkdir(parents=True)
    stage = checkout.root / "rejected"
    other_commands = f'[[ $2 != pth2onnx* ]] && exec {sys.executable} "$@"'
    stage.write_text(f"#!/bin/bash\n{other_commands}\necho model >{product}; exit 2\n")
    stage.chmod(0o755)
    call = ["make", "onnx", "MODEL=demo_digits", "PYTHON=./rejected"]
    done = subprocess.run(call, cwd=checkout.root, capture_output=True, text=True)
    assert done.returncode == 2 and product.exists(), done.stdout + done.stderr


def test_make_has_rules_for_files_of_remembered_values(checkout: Checkout) -> None:
    """Without a rule, make removes such a file if another call wrote it after this one had listed the directory."""
    database = checkout.make("-pn", "onnx", "DATASET=weights").stdout
    for name in ("CFG", "DATASET", "REFERENCE", "WEIGHTS"):
        assert f"\nbuild/demo_digits/settings/{name}.mk:\n" in database


def recipes(database: str, commands: str) -> Iterator[tuple[list[str], set[str]]]:
    """The modules that each printed command runs, and the prerequisites that make has for its product."""
    rules = dict(re.findall(r"^([^#\s%:]+):(?!=) ?(.*)$", database, re.MULTILINE))
    for command in commands.replace("\\\n", " ").splitlines():
        modules = re.findall(r" -m ([a-z0-9_.]+)", command)
        output = re.search(r" --output (\S+)", command)
        if modules and output:
            candidates = [output[1] + ending for ending in ("", "/manifest.json", "_run.json")]
            if modules[0] == "make.shards":
                candidates = [re.search(r" --parts (\S+)/parts", command)[1] + ".json"]  # type: ignore[index]
            product = next((name for name in candidates if name in rules), None)
            assert product, command
            yield modules, set(rules[product].split())


LOADED_BY_NAME = {"infer": ["infer.emulator.__main__", *(f"infer.runtimes.{name}_runtime" for name in
                  ("onnxruntime", "openvino", "torchscript", "torch_aie"))],
                  "atc": ["atc.emulator.__main__"], "amct": ["amct.emulator.__main__"]}  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "qps", "bench", "reference", "bundle", "compare", "BATCHES=2"],
        ["eval", "bench", "BACKEND=torchscript"],
        ["show", "bench", "reference", "bundle", "compare", "MODEL=demo_pose", "WEIGHTS=weights/demo_pose.pth"],
        ["eval", "PRECISION=int8", "KEEP_FLOAT=auto"],
        ["eval", "PRECISION=fp16", "KEEP_FLOAT=auto"],
        ["eval", "SHARDS=4"],
        ["eval", "MODEL=demo_pose", "WEIGHTS=weights/demo_pose.pth", "SHARDS=4"],
    ],
)
def test_prerequisites_contain_all_code_that_a_recipe_runs(checkout: Checkout, arguments: list[str]) -> None:
    (checkout.root / "data/any").mkdir(exist_ok=True)
    given = [word for word in arguments if not word.startswith("MODEL=")]
    model = next((word.partition("=")[2] for word in arguments if word.startswith("MODEL=")), "demo_digits")
    call = ["-n", *given, "DATASET=data/any"]
    commands = checkout.make(*call, model=model)
    assert commands.returncode == 0, commands.stderr
    found = set()
    for modules, prerequisites in recipes(checkout.make("-p", *call, model=model).stdout, commands.stdout):
        roots = {*modules, *(name for each in modules for name in LOADED_BY_NAME.get(each.partition(".")[0], []))}
        missing = {str(file) for file in import_closure(roots)} - prerequisites
        assert not missing, f"{modules[0]}: make does not know of {sorted(missing)}"
        found |= set(modules)
    assert len(found) > 4


@pytest.mark.parametrize(
    "value",
    [
        *("BACKEND=npu", "BATCH=four", "DATASET=my images", "DATASET=it's", "DATASET=nowhere", "WEIGHTS=a#b.pth"),
        *("SOC=P3", "GATE=1%", "INPUT=", "BATCHES=0", "BATHC=4", "SHARDS=0", "SHARD=4/3"),
    ],
)
def test_invalid_values_stop_before_anything_is_written(checkout: Checkout, value: str) -> None:
    """tests/make/test_options.py has values for all checks; the values here also go through make's quoting."""
    done = checkout.make("eval", value)
    assert done.returncode == 2 and value.removesuffix("=4") in done.stderr
    # make adds `.  Stop.` to the last line; if that were a hint, a user would paste the `.` too
    assert done.stderr.endswith("\nnothing was run.  Stop.\n")
    assert not (checkout.root / "build").exists(), "a rejected value is not remembered"


@pytest.mark.parametrize("text", ["LOOP ?= $(shell touch evil)\n", "LOOP ?= 1\ninclude x\n$(shell touch evil)\n"])
def test_make_runs_nothing_that_a_changed_settings_file_contains(checkout: Checkout, text: str) -> None:
    path = checkout.root / "build/demo_digits/settings/LOOP.mk"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    (checkout.root / "x").write_text("$(shell touch evil)\n")
    for target in ("om", "help", "-n"):
        done = checkout.make(target)
        assert target != "om" or (done.returncode == 2 and "LOOP" in done.stderr), done.stderr
    assert not (checkout.root / "evil").exists()


@pytest.mark.parametrize("value", ["MODEL=", "MODEL=../configs", "MODEL=nothing"])
def test_clean_of_an_invalid_model_removes_nothing(checkout: Checkout, value: str) -> None:
    (checkout.root / "build/kept").mkdir(parents=True)
    done = checkout.make("clean", model=value.partition("=")[2])
    assert done.returncode == 2 and f"{value}: no such config" in done.stderr
    assert (checkout.root / "build/kept").is_dir() and (checkout.root / "configs").is_dir()


def test_clean_names_the_model(checkout: Checkout) -> None:
    """clean prints the name of the model, also if it is the default model. If the model has no products, clean prints
    the names of the models that have some, and removes none of their files."""
    build = checkout.root / "build"
    for path in ("hrnet_w18/settings/LOOP.mk", "hrnet_w18/train/log", "mine/settings/LOOP.mk", "demo/x/settings/y"):
        (build / path).parent.mkdir(parents=True, exist_ok=True)
        (build / path).write_text("LOOP ?= 3\n")
    (build / "mine/settings/CFG.mk").write_text("CFG ?= my/mine.yaml\n")
    Path(checkout.root, "my").mkdir()
    Path(checkout.root, "my/mine.yaml").write_text("MODEL: {NAME: cls_hrnet}\n")
    without_make = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}

    def default(*words: str) -> subprocess.CompletedProcess[str]:
        call = ["make", "clean", *words]
        return subprocess.run(call, cwd=checkout.root, env=without_make, capture_output=True, text=True, check=True)

    rejected = checkout.make("clean", "CLEAN=al", model="hrnet_w18")
    assert rejected.returncode == 2 and "CLEAN=al: expected all" in rejected.stderr
    done = default()
    assert "MODEL=hrnet_w18 in build/hrnet_w18; kept: build/hrnet_w18/train\n" in done.stdout
    assert "forgotten: LOOP=3" in done.stderr
    done = default("CLEAN=all")
    assert done.stdout.endswith("MODEL=hrnet_w18 in build/hrnet_w18\n") and not any((build / "hrnet_w18").iterdir())
    for done in (default(), checkout.make("clean", model="hrnet_w30")):
        assert "removed" not in done.stdout and "no products of MODEL=hrnet_w" in done.stderr
        assert done.stderr.endswith("; found MODEL=mine, MODEL=x BUILD=build/demo\n")
    assert (build / "mine/settings/LOOP.mk").is_file() and (build / "demo/x/settings/y").is_file()
    done = checkout.make("clean", model="mine")
    assert "forgotten: CFG=my/mine.yaml LOOP=3; give CFG=my/mine.yaml again" in done.stderr


def test_an_unknown_model_is_rejected(checkout: Checkout) -> None:
    done = checkout.make("onnx", model="hrnet_w19")
    assert done.returncode == 2 and "MODEL=hrnet_w19" in done.stderr and "demo_digits" in done.stderr


def test_a_stage_gets_the_model_of_a_users_config(checkout: Checkout) -> None:
    """For its hints: hrnet/hints.py reads MODEL from the environment."""
    shutil.copy(checkout.root / "configs/demo_digits.yaml", checkout.root / "mine.yaml")
    without_make = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    stage = checkout.root / "python"
    stage.write_text("#!/bin/sh\necho model: $MODEL\nexit 2\n")
    stage.chmod(0o700)
    given = ["make", "onnx", "CFG=mine.yaml", "WEIGHTS=weights/demo_digits.pth", "PYTHON=./python"]
    done = subprocess.run(given, cwd=checkout.root, env=without_make, capture_output=True, text=True)
    assert done.returncode == 2 and "\nmodel: mine\n" in done.stdout, done.stderr


def test_a_missing_checkpoint_is_reported(checkout: Checkout) -> None:
    done = checkout.make("onnx", model="hrnet_w18_ssld")
    assert done.returncode == 2
    assert "weights/hrnet_w18_ssld.pth" in done.stderr and " MODEL=hrnet_w18_ssld" in done.stderr
    assert "https://github.com/HRNet/HRNet-Image-Classification/releases/download/" in done.stderr
    done = checkout.make("onnx", model="hrnet_w30")
    assert done.returncode == 2
    assert "weights/hrnet_w30.pth" in done.stderr and " MODEL=hrnet_w30" in done.stderr


def test_weights_downloads_to_the_path_that_onnx_uses(tmp_path: Path) -> None:
    """`make -j weights onnx` waits for the download; WEIGHTS= may name a file that does not exist yet. CFG=mine.yaml
    gives the model the name `mine`, which is a part of the paths of its products; CFG is remembered."""
    checkout, served = Checkout(tmp_path), tmp_path / "served"
    served.mkdir()
    shutil.copy(ROOT / "weights/demo_digits.pth", served / "published.pth")
    handler = functools.partial(QuietHandler, directory=str(served))
    without_make = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    exporter = checkout.root / "python"  # without torch, whose import would take most of the time
    exporter.write_text(
        f'#!/bin/bash\nif [ $2 != pth2onnx.classification ]; then exec {sys.executable} "$@"; fi\n'
        "test -s weights/new.pth && touch build/mine/model.onnx\n"
    )
    exporter.chmod(0o700)
    given = ["weights", "onnx", "CFG=mine.yaml", "WEIGHTS=weights/new.pth", "PYTHON=./python"]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/published.pth"
        config = (checkout.root / "configs/demo_digits.yaml").read_text()
        (checkout.root / "mine.yaml").write_text(f"{config}WEIGHTS:\n  URL: {url}\n")
        call, environment = ["make", "-j2", *given], {**without_make, "no_proxy": "*"}
        done = subprocess.run(call, cwd=checkout.root, env=environment, capture_output=True, text=True)
        server.shutdown()
    assert done.returncode == 0, done.stderr
    assert (checkout.root / "weights/new.pth").read_bytes() == (served / "published.pth").read_bytes()
    assert "wrote weights/new.pth (" in done.stdout
    command = "./python -m pth2onnx.classification --cfg mine.yaml --weights weights/new.pth"
    assert f"{command} --output build/mine/model.onnx\n" in done.stdout
    assert (checkout.root / "build/mine/model.onnx").exists()
    assert "--cfg mine.yaml --model build/mine/model.onnx" in checkout.make("-n", "om", model="mine").stdout
    done = checkout.make("weights", model="mine")
    not_overwritten = "make weights does not write to a remembered WEIGHTS: it may be the user's own checkpoint"
    assert done.returncode == 2 and "WEIGHTS=weights/new.pth" in done.stderr, not_overwritten


def test_train_writes_to_the_train_directory_of_the_model(checkout: Checkout) -> None:
    (checkout.root / "data/toy").mkdir(exist_ok=True)
    for model, task in (("demo_digits", "classification"), ("demo_pose", "pose")):
        done = checkout.make("-n", "train", "DATASET=data/toy", model=model)
        call = f"-m train.{task} --cfg configs/{model}.yaml --dataset data/toy --output build/{model}/train\n"
        assert done.returncode == 0 and done.stdout.endswith(call), done.stderr


def test_predict_uses_the_class_names_of_one_data_set(checkout: Checkout) -> None:
    """Class names are read from the inputs of this data set, with any LIMIT and INPUT, but not from those of others."""
    (checkout.root / "data/toy").mkdir(exist_ok=True)
    (checkout.root / "a.jpg").touch()
    prep = checkout.root / "build/demo_digits/prep"
    for name in ("toy-float32", "toy-uint8-first3", "toy-old-float32", "imagenet-float32"):
        (prep / name).mkdir(parents=True)
    done = checkout.make("-n", "predict", "DATASET=data/toy/", "IMAGES=a.jpg")
    given = " ".join(f"build/demo_digits/prep/{name}/" for name in ("toy-float32", "toy-uint8-first3"))
    assert done.returncode == 0 and f"--labelled {given} " in done.stdout, done.stderr + done.stdout


def test_doctor_checks_the_given_values_and_remembers_nothing(checkout: Checkout) -> None:
    folder = checkout.root / "data/toy/val"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.JPEG").write_bytes(b"")
    (folder.parent / "val_label.txt").write_text("a.JPEG 0\n")
    done = checkout.make("doctor", "DATASET=data/toy", "BACKEND=onnxruntime")
    assert done.returncode == 0, done.stderr
    assert "\nbackend        onnxruntime (as given)\n" in done.stdout
    assert "\ndata set       data/toy: 1 image\n" in done.stdout
    assert done.stdout.endswith("ready to run demo_digits\n")
    done = checkout.make("doctor", "WEIGHTS=nowhere.pth", "DATASET=data/toy", "BACKEND=ascend")
    assert done.returncode == 2
    assert "BACKEND=ascend: atc is not on PATH; source " in done.stderr
    assert "error: nowhere.pth: no such checkpoint" in done.stderr
    assert "SOC=Npu310: " in checkout.make("doctor", "SOC=Npu310").stderr
    assert not (checkout.root / "build").exists()


def test_atc_on_the_path_is_used(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    (checkout.root / "bin").mkdir()
    (checkout.root / "bin/atc").write_text("#!/bin/sh\n")
    (checkout.root / "bin/atc").chmod(0o755)
    (checkout.root / "data/imagenet/val").mkdir(parents=True)
    path = f"{checkout.root}/bin:{os.environ['PATH']}"
    done = checkout.make("-n", "om", PATH=path)
    assert "BACKEND=auto: using ascend (atc is on PATH)" in done.stderr
    assert "--output build/demo_digits/om/bs16-float32-Ascend310P3.om --batch_size 16 " in done.stdout
    assert "--precision default --backend ascend" in done.stdout
    for precision in ("fp16", "fp32"):
        shown = checkout.make("-n", "infer", f"PRECISION={precision}", PATH=path).stdout
        assert f"/om/bs16-float32-Ascend310P3-{precision}.om --batch_size 16 " in shown
        assert f"--precision {precision} --backend ascend" in shown
        assert f"/ascend-bs16-Ascend310P3-{precision} " in shown


def test_settings_of_pip_and_git_do_not_break_setup(checkout: Checkout) -> None:
    """PIP_USER=1 would install outside of .venv, core.autocrlf=true would break the shell scripts."""
    install = [line for line in checkout.make("-n", "setup").stdout.splitlines() if " pip install " in line]
    assert install and all(line.startswith("PIP_USER=0 ") for line in install)
    assert "* text=auto eol=lf" in (ROOT / ".gitattributes").read_text(encoding="utf-8").splitlines()


def test_stages_that_are_timed_never_run_side_by_side(checkout: Checkout) -> None:
    """Stages run one after another, whatever MAKEFLAGS contains: two stages at a time would disturb the timing."""
    order = [
        line.split()[2] for line in checkout.make("-n", "qps", "BATCHES=1,2").stdout.splitlines() if " -m " in line
    ]
    again = checkout.make("-n", "-j4", "qps", "BATCHES=1,2").stdout.splitlines()
    assert [line.split()[2] for line in again if " -m " in line] == order
    assert "\n.NOTPARALLEL:" in checkout.make("-p", "-j4", "help").stdout


def test_family_reads_the_files_that_bench_and_eval_write(checkout: Checkout) -> None:
    """Dry runs of `make family` and of `make bench eval` show the same file names. make family is not started by
    Checkout.make, which would add MODEL=."""
    (checkout.root / "data/any").mkdir(exist_ok=True)
    given = ["-n", f"PYTHON={sys.executable}", "DATASET=data/any", "BATCHES=1 2"]
    without_make = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    call = ["make", *given, "family", "MODELS=demo_digits hrnet_w18"]
    done = subprocess.run(call, cwd=checkout.root, env=without_make, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    words = done.stdout.replace("\\\n", " ").replace("'", "").split()
    bench, metrics = (words[words.index(flag) + 1] for flag in ("--bench", "--metrics"))
    assert words[words.index("--models") + 1 : words.index("--output")] == ["demo_digits", "hrnet_w18"]
    assert {"BATCHES=1,2", "BATCH=2", "DATASET=data/any", "BACKEND=onnxruntime"} <= set(words)
    own = checkout.make("-n", "bench", "eval", "DATASET=data/any", "BATCHES=1,2", "BATCH=2").stdout.split()
    assert {f"build/demo_digits/{bench}", f"build/demo_digits/{metrics}"} <= set(own)


def test_help_lists_every_target_and_variable_in_100_columns() -> None:
    without_make = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    shown = subprocess.run(
        ["make", "help"], cwd=ROOT, env=without_make, capture_output=True, text=True, check=True
    ).stdout
    assert max(map(len, shown.splitlines())) <= 100 and "$" not in shown
    text = (ROOT / "Makefile").read_text().replace("\\\n", "")
    stages, variables = (
        re.search(rf"^{name} *:= (.*)$", text, re.MULTILINE)[1].split() for name in ("STAGES", "OPTIONS")
    )  # type: ignore[index]
    targets = [*stages, "setup", "doctor", "demo", "test", "check", "clean", "bench-peers"]
    for name in [*variables, *targets]:
        assert f"\n  {name} " in shown, name
    assert "weights/MODEL.pth" in shown and "build/MODEL/model.onnx" in shown


def test_the_makefile_is_one_page() -> None:
    assert len((ROOT / "Makefile").read_text().splitlines()) <= 150
