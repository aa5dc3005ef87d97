"""hrnet/config.py and the files in configs/."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrnet.cli import UserError
from hrnet.config import CONFIGS, add_cfg_argument, check_same_config, config_sha256, load_config, named_files
from hrnet.schemas import CLASSIFICATION, POSE
from tests.support import coco_sets, tiny

# As in every upstream experiment file, including its misspelt key (commit f130a24).
UPSTREAM_W18 = """
GPUS: (0,1,2,3)
LOG_DIR: 'log/'
OUTPUT_DIR: 'output/'
WORKERS: 4
PRINT_FREQ: 1000
MODEL:
  NAME: cls_hrnet
  IMAGE_SIZE: [224, 224]
  EXTRA:
    STAGE1: {NUM_MODULES: 1, NUM_RANCHES: 1, BLOCK: BOTTLENECK, NUM_BLOCKS: [4], NUM_CHANNELS: [64], FUSE_METHOD: SUM}
CUDNN: {BENCHMARK: true, DETERMINISTIC: false, ENABLED: true}
TRAIN: {LR: 1, LR_STEP: [30, 60, 90], OPTIMIZER: sgd, NESTEROV: true}
"""

# As in upstream's experiments/coco/higher_hrnet/w32_512_adam_lr1e-3.yaml (commit aa23881).
UPSTREAM_POSE = """
AUTO_RESUME: True
GPUS: (0,)
FP16: {ENABLED: True, DYNAMIC_LOSS_SCALE: True}
DATASET: {SIGMA: 2, FLIP: 0.5, INPUT_SIZE: 512, OUTPUT_SIZE: [128, 256], MAX_SCALE: 1.5, ROOT: 'data/coco'}
DEBUG: {DEBUG: True, SAVE_TAGMAPS_PRED: True}
LOSS: {NUM_STAGES: 2, AE_LOSS_TYPE: exp, WITH_AE_LOSS: [True, False], PUSH_LOSS_FACTOR: [0.001, 0.001]}
MODEL:
  EXTRA:
    FINAL_CONV_KERNEL: 1
    PRETRAINED_LAYERS: ['*']
    STAGE2: {NUM_MODULES: 1, NUM_BRANCHES: 2, BLOCK: BASIC, NUM_BLOCKS: [4, 4], NUM_CHANNELS: [32, 64]}
    DECONV: {NUM_DECONVS: 1, NUM_CHANNELS: [32], KERNEL_SIZE: [4], NUM_BASIC_BLOCKS: 4, CAT_OUTPUT: [True]}
  NAME: pose_higher_hrnet
  NUM_JOINTS: 17
  PRETRAINED: 'models/pytorch/imagenet/hrnet_w32-36af842e.pth'
TEST:
  FLIP_TEST: True
  NMS_KERNEL: 5
  NMS_PADDING: 2
  PROJECT2IMAGE: True
  SCALE_FACTOR: [1]
  WITH_AE: (True, False)
TRAIN: {IMAGES_PER_GPU: 12, LR: 0.001, LR_STEP: [200, 260]}
"""

POSE_REFERENCES = {  # AP in percent, million parameters, short side in pixels
    "higher_hrnet_w32_512": (67.1, 28.6, 512),
    "higher_hrnet_w32_640": (68.5, 28.6, 640),
    "higher_hrnet_w48_640": (69.9, 63.8, 640),
}
MODEL_ZOO_GEARS = (  # of the model zoo's atc command
    "1024,512;960,512;896,512;832,512;768,512;704,512;640,512;576,512;512,512;512,576;512,640;512,704;512,768;512,832;"
    "512,896;512,960;512,1024"
)

REFERENCES = {  # Top-1 and Top-5 in percent, million parameters
    "hrnet_w18_small_v1": (72.3, 90.7, 13.2),
    "hrnet_w18_small_v2": (75.1, 92.4, 15.6),
    "hrnet_w18": (76.8, 93.4, 21.3),
    "hrnet_w30": (78.2, 94.2, 37.7),
    "hrnet_w32": (78.5, 94.2, 41.2),
    "hrnet_w40": (78.9, 94.5, 57.6),
    "hrnet_w44": (78.9, 94.4, 67.1),
    "hrnet_w48": (79.3, 94.5, 77.5),
    "hrnet_w64": (79.5, 94.6, 128.1),
    "hrnet_w18_ssld": (81.6, 95.8, 21.3),
    "hrnet_w48_ssld": (83.6, 96.8, 77.5),
    "se_hrnet_w64_ssld": (84.7, 97.3, 128.99),
}


@pytest.fixture
def write(tmp_path):
    def write_config(text: str) -> Path:
        path = tmp_path / "model.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_config


def check_rejected(path: Path, key: str, found: Optional[str]) -> None:
    """The error is one line that names the file and the key, and shows the value that was found."""
    with pytest.raises(UserError) as caught:
        load_config(path)
    error = caught.value
    assert error.where == path and key in error.what
    assert found is None or str(error.found) == found
    assert "\n" not in str(error)


@pytest.mark.parametrize("model", REFERENCES)
def test_reference_figures_are_the_published_ones(model):
    reference = load_config(CONFIGS / f"{model}.yaml").REFERENCE
    assert (reference.TOP1, reference.TOP5, reference.PARAMS_M) == REFERENCES[model]
    assert reference.IMAGES == 50000  # ImageNet's validation images
    assert reference.SOURCE


@pytest.mark.parametrize("model", REFERENCES)
def test_a_reference_says_what_it_was_measured_with(model):
    config = load_config(CONFIGS / f"{model}.yaml")
    resizer = "cv2" if "ssld" in model else "pillow"
    assert (config.INPUT.RESIZER, config.INPUT.INTERPOLATION, config.INPUT.RESIZE) == (resizer, "bilinear", 256)
    assert f"measured with {resizer}'s resize" in config.REFERENCE.SOURCE.lower()


def test_the_model_zoos_weights_are_known_by_address_and_hash():
    weights = load_config(CONFIGS / "hrnet_w18.yaml").WEIGHTS
    assert weights.URL.endswith("/HRNet/NPU/8P/model_best.pth.tar")
    assert weights.MD5 == "1f1d61e242ac9ca4cab5d0c49299cb76"


def test_the_recipe_is_that_of_upstreams_experiments():
    train = load_config(CONFIGS / "hrnet_w18.yaml").TRAIN
    assert (train.OPTIMIZER, train.MOMENTUM, train.NESTEROV, train.WD) == ("sgd", 0.9, True, 0.0001)
    assert (train.LR, train.LR_STEP, train.LR_FACTOR) == (0.05, [30, 60, 90], 0.1)
    assert (train.BATCH_SIZE_PER_GPU, train.END_EPOCH, train.CROP_SCALE) == (32, 100, [0.08, 1.0])


@pytest.mark.parametrize("model", POSE_REFERENCES)
def test_reference_figures_of_pose_are_the_published_ones(model):
    config = load_config(CONFIGS / f"{model}.yaml", POSE)
    reference = config.REFERENCE
    assert (reference.AP, reference.PARAMS_M, config.DATASET.INPUT_SIZE) == POSE_REFERENCES[model]
    assert reference.IMAGES == 5000  # of val2017
    assert "commit aa23881" in reference.SOURCE


def test_gears_equal_the_model_zoos_or_follow_their_rule_for_640():
    gears = load_config(CONFIGS / "higher_hrnet_w32_512.yaml").INPUT.GEARS
    assert ";".join(f"{height},{width}" for height, width in gears) == MODEL_ZOO_GEARS
    for model in ("higher_hrnet_w32_640", "higher_hrnet_w48_640"):
        sizes = range(1280, 640, -64)
        expected = [[size, 640] for size in sizes] + [[640, 640]] + [[640, size] for size in reversed(sizes)]
        assert load_config(CONFIGS / f"{model}.yaml").INPUT.GEARS == expected


def test_a_users_upstream_pose_file_loads_and_means_the_same_net(write):
    config, ours = load_config(write(UPSTREAM_POSE)), load_config(CONFIGS / "higher_hrnet_w32_512.yaml")
    assert config.DATASET.FLIP == 0.5
    assert config.TEST.WITH_AE == (True, False) and config.GPUS == (0,)
    assert config.MODEL.EXTRA == ours.MODEL.EXTRA and config.INPUT.GEARS == []


def test_the_hash_of_pose_depends_on_the_short_side_and_the_tags(write):
    plain = config_sha256(load_config(write(UPSTREAM_POSE)))
    for change in (
        ("INPUT_SIZE: 512", "INPUT_SIZE: 640"),
        ("WITH_AE_LOSS: [True, False]", "WITH_AE_LOSS: [True, True]"),
        ("TRAIN:", "INPUT: {GEARS: [[512, 512], [512, 576]]}\nTRAIN:"),
    ):
        assert config_sha256(load_config(write(UPSTREAM_POSE.replace(*change)))) != plain
    assert config_sha256(load_config(write(UPSTREAM_POSE.replace("FLIP: 0.5", "FLIP: 0.3")))) == plain


def test_a_config_of_the_other_task_is_rejected(write):
    for text, kind, found in ((UPSTREAM_POSE, CLASSIFICATION, POSE), ("{}", POSE, CLASSIFICATION)):
        with pytest.raises(UserError) as error:
            load_config(write(text), kind)
        assert (error.value.what, error.value.expected, error.value.found) == ("invalid MODEL.NAME", kind, found)
    check_rejected(write("MODEL: {NAME: resnet}"), "MODEL.NAME", "resnet")


@pytest.mark.parametrize(
    ("old", "new", "key", "found"),
    [
        ("NUM_JOINTS", "NUM_JOINT", "MODEL.NUM_JOINT", None),
        ("NUM_BASIC_BLOCKS", "NUM_BLOCKS", "MODEL.EXTRA.DECONV.NUM_BLOCKS", None),
        ("NUM_CHANNELS: [6]", "NUM_CHANNELS: [6, 7]", "DECONV.NUM_CHANNELS", "[6, 7]"),
        ("NUM_CHANNELS: [6]", "KERNEL_SIZE: [5]", "DECONV.KERNEL_SIZE", "[5]"),
        ("NUM_CHANNELS: [6]", "CAT_OUTPUT: [1]", "DECONV.CAT_OUTPUT", "[1]"),
        ("    DECONV", "    FINAL_CONV_KERNEL: 5\n    DECONV", "FINAL_CONV_KERNEL", "5"),
        ("INPUT:", "LOSS: {WITH_AE_LOSS: [true]}\nINPUT:", "WITH_AE_LOSS", "(True,)"),
        ("INPUT_SIZE: 64", "INPUT_SIZE: 60", "DATASET.INPUT_SIZE", "60"),
        ("NUM_JOINTS: 17", "NUM_JOINTS: 14", "MODEL.NUM_JOINTS", "14"),
        ("INPUT:", "TEST: {TAG_THRESHOLD: .nan}\nINPUT:", "TEST.TAG_THRESHOLD", "nan"),
        ("INPUT_SIZE: 64", "INPUT_SIZE: 64\n  FLIP: 2", "DATASET.FLIP", "2.0"),
        ("INPUT_SIZE: 64", "INPUT_SIZE: 64\n  MAX_SCALE: 0.5", "DATASET.MIN_SCALE", "[0.75, 0.5]"),
        ("INPUT_SIZE: 64", "WITH_CENTER: true", "DATASET.WITH_CENTER", "True"),
        ("[96, 64], [", "[96, 96], [", "INPUT.GEARS", "[96, 96]"),
        ("INPUT:", "REFERENCE: {AP: 101}\nINPUT:", "REFERENCE.AP", "101.0"),
        ("INPUT:", "REFERENCE: {AP: 67.1}\nINPUT:", "REFERENCE.IMAGES is missing", "None"),
        ("INPUT:", "REFERENCE: {TOP1: 1}\nINPUT:", "REFERENCE.TOP1", None),
        ("INPUT:", "INPUT:\n  STD: [0, 1, 1]", "INPUT.STD", "[0, 1, 1]"),
        ("INPUT:", "INPUT:\n  RESIZER: cv2", "INPUT.RESIZER", None),
        ("INPUT:", "TEST: {NMS_KERNEL: 3, PROJECT2IMAGE: true}\nINPUT:", "TEST.NMS_KERNEL", "3"),
        ("INPUT:", "TEST: {SCALE_FACTOR: [0.5, 1]}\nINPUT:", "TEST.SCALE_FACTOR", "[0.5, 1]"),
    ],
)
def test_an_invalid_pose_config_is_rejected(write, old, new, key, found):
    assert old in tiny.POSE_CONFIG
    text = tiny.POSE_CONFIG.replace(old, new, 1)
    check_rejected(write(text if "TEST" in text else text + coco_sets.DECODING), key, found)


def test_a_users_upstream_file_loads_and_means_the_same_model(write):
    config = load_config(write(UPSTREAM_W18))
    assert config.TRAIN.LR == 1.0
    assert config.GPUS == (0, 1, 2, 3)
    assert config_sha256(config) == config_sha256(load_config(CONFIGS / "hrnet_w18.yaml"))


@pytest.mark.parametrize(
    ("model", "parts"),
    [
        ("other", "expected configs/small.yaml, found other); give MODEL"),
        ("small", "found small with other values); restore configs/small.yaml, or export and compile the model again"),
    ],
)
def test_a_model_of_another_config_or_of_one_that_was_edited(model, parts):
    where, cfg = "small.om", Path("configs/small.yaml")
    for metadata in ({}, {"model": "other"}, {"model": model, "config_sha256": "a"}):
        check_same_config(metadata, "a", cfg, where, "another config", "give MODEL")
    with pytest.raises(UserError) as error:
        check_same_config({"model": model, "config_sha256": "b"}, "a", cfg, where, "another config", "give MODEL")
    assert str(error.value).startswith("small.om: another config (") and parts in str(error.value)


def test_the_hash_depends_only_on_the_model_and_its_input(write):
    plain = config_sha256(load_config(write("{}")))
    assert config_sha256(load_config(write("TRAIN: {LR: 0.5}"))) == plain
    for key in ("RESIZE: 255", "RESIZER: cv2", "INTERPOLATION: bicubic"):
        assert config_sha256(load_config(write(f"INPUT: {{{key}}}"))) != plain
    assert config_sha256(load_config(write("MODEL: {NUM_CLASSES: 10}"))) != plain


@pytest.mark.parametrize(
    ("key", "values"), [("RESIZER", ("pillow", "cv2")), ("INTERPOLATION", ("bilinear", "bicubic"))]
)
def test_only_known_resizers_and_interpolations(write, key, values):
    for value in values:
        assert load_config(write(f"INPUT: {{{key}: {value}}}")).INPUT[key] == value
    for other in ("PIL", "nearest", "''"):
        with pytest.raises(UserError) as caught:
            load_config(write(f"INPUT: {{{key}: {other}}}"))
        assert f"INPUT.{key}" in caught.value.what and caught.value.expected == " or ".join(values)
    check_rejected(write(f"INPUT: {{{key}: 3}}"), f"INPUT.{key}", None)


def test_a_loaded_config_cannot_change(write):
    config = load_config(write("{}"))
    with pytest.raises(AttributeError):
        config.MODEL.NUM_CLASSES = 7


@pytest.mark.parametrize(
    ("text", "key", "found"),
    [
        ("MODEL: {NUM_CLASES: 10}", "MODEL.NUM_CLASES", None),
        ("MODEL: {EXTRA: {STAGE2: {NUM_CHANELS: [1, 2]}}}", "MODEL.EXTRA.STAGE2.NUM_CHANELS", None),
        ("MODEL: 3", "MODEL", "3"),
        ("MODEL: {NUM_CLASSES: ten}", "", None),
        ("MODEL: {EXTRA: {STAGE2: {NUM_BRANCHES: 3}}}", "STAGE2.NUM_BRANCHES", "3"),
        ("MODEL: {EXTRA: {STAGE3: {NUM_BLOCKS: [4]}}}", "STAGE3.NUM_BLOCKS", "[4]"),
        ("MODEL: {EXTRA: {STAGE1: {BLOCK: PLAIN}}}", "", "PLAIN"),
        ("MODEL: {EXTRA: {STAGE4: {FUSE_METHOD: CAT}}}", "", "CAT"),
        ("MODEL: {EXTRA: {HEAD: {CHANNELS: [8]}}}", "HEAD.CHANNELS", "[8]"),
        ("MODEL: {EXTRA: {STAGE2: {NUM_CHANNELS: [16, thirtytwo]}}}", "NUM_CHANNELS", "[16, 'thirtytwo']"),
        ("MODEL: {EXTRA: {STAGE2: {NUM_BLOCKS: [2, -2]}}}", "", "[2, -2]"),
        ("MODEL: {EXTRA: {STAGE2: {NUM_MODULES: 0}}}", "NUM_MODULES", "0"),
        ("MODEL: {NUM_CLASSES: 0}", "MODEL.NUM_CLASSES", "0"),
        ("TRAIN: {OPTIMIZER: lars}", "TRAIN.OPTIMIZER", "lars"),
        ("TRAIN: {LR: 0}", "TRAIN.LR", "0.0"),
        ("TRAIN: {LR_STEP: [30, 60.5]}", "TRAIN.LR_STEP", "[30, 60.5]"),
        ("TRAIN: {CROP_SCALE: [0.9, 0.1]}", "TRAIN.CROP_SCALE", None),
        ("TRAIN: {BATCH_SIZE_PER_GPU: 0}", "TRAIN.BATCH_SIZE_PER_GPU", "0"),
        ("MODEL: {IMAGE_SIZE: [224]}", "MODEL.IMAGE_SIZE", "[224]"),
        ("MODEL: {IMAGE_SIZE: [60, 60]}", "MODEL.IMAGE_SIZE", "[60, 60]"),
        ("MODEL: {IMAGE_SIZE: [224, true]}", "MODEL.IMAGE_SIZE", "[224, True]"),
        ("MODEL: {IMAGE_SIZE: null}", "MODEL.IMAGE_SIZE", None),
        ("INPUT: {RESIZE: null}", "INPUT.RESIZE", None),
        ("INPUT: {RESIZE: 200}", "INPUT.RESIZE", "200"),
        ("REFERENCE: {TOP1: 768.0}", "REFERENCE.TOP1", "768.0"),
        ("REFERENCE: {TOP5: .nan}", "REFERENCE.TOP5", "nan"),
        ("REFERENCE: {TOP1: 76.8}", "REFERENCE.IMAGES is missing", "None"),
        ("REFERENCE: {IMAGES: -1}", "REFERENCE.IMAGES", "-1"),
        ("WEIGHTS: {MD5: 1f1d61e2}", "WEIGHTS.MD5", "1f1d61e2"),
        ("WEIGHTS: {URL: null}", "WEIGHTS.URL", None),
        ("INPUT: {MEAN: [0.5]}", "INPUT.MEAN", "[0.5]"),
        ("INPUT: {MEAN: null}", "INPUT.MEAN", None),
        ("INPUT: {MEAN: [0.5, 0.5, half]}", "INPUT.MEAN", "[0.5, 0.5, 'half']"),
        ("INPUT: {STD: [1, .nan, 1]}", "INPUT.STD", "[1, nan, 1]"),
        ("INPUT: {STD: [1, 1, -0.1]}", "INPUT.STD", "[1, 1, -0.1]"),
        ("REFERENCE: {SOURCE: 2020-01-01}", "REFERENCE.SOURCE", "datetime.date(2020, 1, 1)"),
        ("REFERENCE: {SOURCE: !!binary eA==}", "REFERENCE.SOURCE", "b'x'"),
        ("REFERENCE: {TOP1: }", "REFERENCE.TOP1", None),
        ("TRAIN: {LR: .inf}", "TRAIN.LR", "inf"),
        ("TRAIN: {WD: -1}", "TRAIN.WD", "-1.0"),
        ("TRAIN: {MOMENTUM: 1}", "TRAIN.MOMENTUM", "1.0"),
        (f"TRAIN: {{GAMMA1: {10**400}}}", "TRAIN.GAMMA1", None),
        (f"MODEL: {{EXTRA: {{STEM_INPLANES: {10**30}}}}}", "MODEL.EXTRA.STEM_INPLANES", None),
        ("MODEL: {EXTRA: {STAGE1: {NUM_BLOCKS: &a [*a]}}}", "STAGE1.NUM_BLOCKS", None),
        ("TEST: {BATCH_SIZE_PER_GPU: -1}", "TEST.BATCH_SIZE_PER_GPU", "-1"),
        ("WORKERS: -1", "WORKERS", "-1"),
        ("- a list", "", "list"),
        ("{", "not YAML", None),
    ],
)
def test_an_invalid_config_is_rejected(write, text, key, found):
    check_rejected(write(text), key, found)


def test_keys_without_effect_are_reported_once_per_load(write, capsys):
    load_config(write("GPUS: [0]\nTEST: {FLIP_TEST: true}"))
    (line,) = capsys.readouterr().err.splitlines()
    assert "model.yaml" in line and "GPUS" in line and "TEST.FLIP_TEST" in line
    load_config(write("TRAIN: {LR: 0.1}"))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("model", [*REFERENCES, *POSE_REFERENCES, "demo_digits", "demo_pose"])
def test_shipped_configs_set_no_key_without_effect(model, capsys):
    load_config(CONFIGS / f"{model}.yaml")
    assert capsys.readouterr().err == ""


NAMED = "MODEL: {NUM_CLASSES: 3}\nINPUT: {CLASS_NAMES: %s}"


def test_class_names(write, tmp_path):
    path = write(NAMED % "names.txt")
    (tmp_path / "names.txt").write_bytes("\ufeffcat\r\n a dog \r\n猫\r\n".encode())
    assert load_config(path).INPUT.CLASS_NAMES == ["cat", "a dog", "猫"]
    assert named_files(path) == [tmp_path / "names.txt"]
    assert load_config(write(NAMED % "[cat, 'no', '1']")).INPUT.CLASS_NAMES == ["cat", "no", "1"]
    assert named_files(path) == []
    named, unnamed = load_config(path), load_config(write("MODEL: {NUM_CLASSES: 3}"))
    assert named.INPUT.CLASS_NAMES and not unnamed.INPUT.CLASS_NAMES
    assert config_sha256(named) == config_sha256(unnamed), "class names are not in the hash"


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (None, ["no such file", "INPUT.CLASS_NAMES"]),
        (b"", ["empty"]),
        (b"cat\ndog\n", ["MODEL.NUM_CLASSES", "expected 3 names", "found 2"]),
        (b"cat\n\nbird\n", ["line 2"]),
        (b"cat\nd\x01og\nbird\n", ["line 2", "d"]),
        ("cat\ndog\nkäse\n".encode("latin-1"), ["UTF-8"]),
    ],
)
def test_invalid_class_names(content, parts, write, tmp_path):
    if content is not None:
        (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_config(write(NAMED % "names.txt"))
    assert all(part in str(caught.value) for part in parts), caught.value


def test_unquoted_class_names_are_not_text(write):
    check_rejected(write(NAMED % "[cat, no, dog]"), "INPUT.CLASS_NAMES", "['cat', False, 'dog']")


@pytest.mark.parametrize("model", REFERENCES)
def test_shipped_class_names(model):
    """In the order of ImageNet's indices: the first, the last, and some names that are easily confused."""
    names = load_config(CONFIGS / f"{model}.yaml").INPUT.CLASS_NAMES
    assert len(set(names)) == 1000
    known = {
        0: "tench",
        7: "cock",
        8: "hen",
        134: "crane bird",
        207: "golden retriever",
        517: "crane",
        999: "toilet tissue",
    }
    assert {index: names[index] for index in known} == known


def test_cfg_is_a_name_or_a_path():
    parser = argparse.ArgumentParser()
    add_cfg_argument(parser)
    assert parser.parse_args(["--cfg", "hrnet_w18"]).cfg == CONFIGS / "hrnet_w18.yaml"
    assert parser.parse_args(["--cfg", "x/mine.yaml"]).cfg == Path("x/mine.yaml")


def test_a_missing_config_names_the_nearest():
    with pytest.raises(UserError, match=r"did you mean hrnet_w18"):
        load_config(CONFIGS / "hrnetw18.yaml")


@given(st.text(alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZ_", min_size=1, max_size=12))
def test_keys_that_are_not_in_the_schema_are_rejected(tmp_path_factory, key):
    known = load_config(CONFIGS / "hrnet_w18.yaml")
    path = tmp_path_factory.mktemp("config") / "model.yaml"
    path.write_text(f"INPUT: {{'{key}': 1}}", encoding="utf-8")
    if key in known.INPUT:
        return
    with pytest.raises(UserError, match=f"unknown key INPUT.{key}"):
        load_config(path)
