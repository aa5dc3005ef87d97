"""The allowed keys of a config and their defaults: one yacs schema for each kind of model.

Classification: https://github.com/HRNet/HRNet-Image-Classification lib/config/default.py, commit f130a24.
Pose: https://github.com/HRNet/HigherHRNet-Human-Pose-Estimation lib/config/default.py, commit aa23881. Upstream
does not define the keys below MODEL.EXTRA; here they follow its experiments and lib/models/pose_higher_hrnet.py.
Our own keys are INPUT, REFERENCE and WEIGHTS for both; MODEL.EXTRA.HEAD, MODEL.EXTRA.SQUEEZE_EXCITE and
TRAIN.CROP_SCALE for classification; and MODEL.EXTRA.STAGE1 for pose. The schema for classifiers in ONNX files is our
own too.
"""

from __future__ import annotations

from typing import Any

from yacs.config import CfgNode

CLASSIFICATION, POSE, ONNX = "cls_hrnet", "pose_higher_hrnet", "onnx"  # MODEL.NAME
CLASSIFIERS = (CLASSIFICATION, ONNX)
RESIZERS = ("pillow", "cv2")  # INPUT.RESIZER
INTERPOLATIONS = ("bilinear", "bicubic")  # INPUT.INTERPOLATION


# Keys in upstream's files that are accepted but not used. The values only give the types; most are upstream's defaults.
_IGNORED_BY_BOTH: dict[str, Any] = {
    "GPUS": (0,),
    "LOG_DIR": "",
    "DATA_DIR": "",
    "OUTPUT_DIR": "",
    "AUTO_RESUME": False,
    "PIN_MEMORY": True,
    "RANK": 0,
    "CUDNN.BENCHMARK": True,
    "CUDNN.DETERMINISTIC": False,
    "CUDNN.ENABLED": True,
    "TRAIN.GAMMA1": 0.99,
    "TRAIN.GAMMA2": 0.0,
    "TRAIN.BEGIN_EPOCH": 0,
    "TRAIN.RESUME": False,
    "TRAIN.CHECKPOINT": "",
    "TRAIN.SHUFFLE": True,
    "MODEL.INIT_WEIGHTS": True,
    "DATASET.ROOT": "",
    "DATASET.DATA_FORMAT": "jpg",
    "TEST.FLIP_TEST": False,
    "TEST.MODEL_FILE": "",
    "DEBUG.SAVE_BATCH_IMAGES_GT": False,
    "DEBUG.SAVE_BATCH_IMAGES_PRED": False,
}
IGNORED: dict[str, dict[str, Any]] = {
    CLASSIFICATION: {
        **_IGNORED_BY_BOTH,
        "MODEL.NUM_JOINTS": 17,
        "MODEL.TAG_PER_JOINT": True,
        "MODEL.TARGET_TYPE": "gaussian",
        "MODEL.HEATMAP_SIZE": [64, 64],
        "MODEL.SIGMA": 2,
        "MODEL.EXTRA.FINAL_CONV_KERNEL": 1,
        "MODEL.EXTRA.PRETRAINED_LAYERS": ["*"],
        "MODEL.EXTRA.WITH_HEAD": True,
        "LOSS.USE_OHKM": False,
        "LOSS.TOPK": 8,
        "LOSS.USE_TARGET_WEIGHT": True,
        "LOSS.USE_DIFFERENT_JOINTS_WEIGHT": False,
        "DATASET.DATASET": "imagenet",
        "DATASET.TRAIN_SET": "train",
        "DATASET.TEST_SET": "val",
        "DATASET.HYBRID_JOINTS_TYPE": "",
        "DATASET.SELECT_DATA": False,
        "DATASET.SCALE_FACTOR": 0.25,
        "DATASET.ROT_FACTOR": 30,
        "DATASET.PROB_HALF_BODY": 0.0,
        "DATASET.NUM_JOINTS_HALF_BODY": 8,
        "DATASET.COLOR_RGB": False,
        "TEST.POST_PROCESS": False,
        "TEST.SHIFT_HEATMAP": False,
        "TEST.USE_GT_BBOX": False,
        "TEST.IMAGE_THRE": 0.1,
        "TEST.NMS_THRE": 0.6,
        "TEST.SOFT_NMS": False,
        "TEST.OKS_THRE": 0.5,
        "TEST.IN_VIS_THRE": 0.0,
        "TEST.COCO_BBOX_FILE": "",
        "TEST.BBOX_THRE": 1.0,
        "DEBUG.DEBUG": False,
        "DEBUG.SAVE_HEATMAPS_GT": False,
        "DEBUG.SAVE_HEATMAPS_PRED": False,
    },
    POSE: {
        **_IGNORED_BY_BOTH,
        "VERBOSE": True,
        "DIST_BACKEND": "nccl",
        "MULTIPROCESSING_DISTRIBUTED": True,
        "FP16.STATIC_LOSS_SCALE": 1.0,
        "FP16.DYNAMIC_LOSS_SCALE": False,
        "MODEL.SYNC_BN": False,
        "LOSS.NUM_STAGES": 2,
        "DATASET.DATASET": "coco_kpt",
        "DATASET.DATASET_TEST": "coco",
        "DATASET.NUM_JOINTS": 17,
        "DATASET.OUTPUT_SIZE": [128, 256, 512],
        "TEST.IMAGES_PER_GPU": 32,
        "TEST.IGNORE_CENTER": True,
        "TEST.LOG_PROGRESS": False,
        "DEBUG.DEBUG": True,
        "DEBUG.SAVE_HEATMAPS_GT": True,
        "DEBUG.SAVE_HEATMAPS_PRED": True,
        "DEBUG.SAVE_TAGMAPS_PRED": True,
    },
    ONNX: {},
}

# The only values of these TEST keys that pose decoding supports. Upstream's COCO configs have them; upstream's defaults
# differ for all but SCALE_FACTOR. The schema below has upstream's defaults for the last three.
POSE_TEST = {
    "SCALE_FACTOR": [1],
    "WITH_HEATMAPS": [True, True],
    "WITH_AE": [True, False],
    "PROJECT2IMAGE": True,
    "NMS_KERNEL": 5,
    "NMS_PADDING": 2,
}


def _stage(modules: int, branches: int, block: str, blocks: list[int], channels: list[int]) -> CfgNode:
    return CfgNode(
        {
            "NUM_MODULES": modules,
            "NUM_BRANCHES": branches,
            "BLOCK": block,  # BASIC or BOTTLENECK
            "NUM_BLOCKS": blocks,  # residual blocks in each branch
            "NUM_CHANNELS": channels,  # width of each branch
            "FUSE_METHOD": "SUM",
        }
    )


def _common() -> CfgNode:
    """The keys that classification and pose have."""
    schema = CfgNode()
    schema.WORKERS = 4  # image loading processes for each training process
    schema.PRINT_FREQ = 20  # steps between two lines of the training log

    schema.TRAIN = CfgNode()
    schema.TRAIN.LR_FACTOR = 0.1
    schema.TRAIN.LR_STEP = [90, 110]  # epochs after which the rate is multiplied by LR_FACTOR; []: a one-cycle rate
    schema.TRAIN.LR = 0.001
    schema.TRAIN.OPTIMIZER = "adam"  # or sgd
    schema.TRAIN.MOMENTUM = 0.9  # MOMENTUM and NESTEROV are only used by sgd
    schema.TRAIN.WD = 0.0001  # weight decay; not used by adam for pose, as in upstream
    schema.TRAIN.NESTEROV = False
    schema.TRAIN.END_EPOCH = 140

    schema.INPUT = CfgNode()
    schema.INPUT.MEAN = [0.485, 0.456, 0.406]  # R, G, B of pixels scaled to 0..1
    schema.INPUT.STD = [0.229, 0.224, 0.225]

    schema.WEIGHTS = CfgNode({"URL": "", "MD5": ""})  # MD5, since publishers state it
    return schema


def _add_ignored(schema: CfgNode, kind: str) -> CfgNode:
    """`schema` with the keys of IGNORED."""
    for name, default in IGNORED[kind].items():
        *groups, key = name.split(".")
        node = schema
        for group in groups:
            node = node.setdefault(group, CfgNode())
        node[key] = default
    return schema


def classification() -> CfgNode:
    schema = _common()
    schema.MODEL = CfgNode()
    schema.MODEL.NAME = CLASSIFICATION
    schema.MODEL.NUM_CLASSES = 1000
    schema.MODEL.PRETRAINED = ""  # a checkpoint to start training from; only weights that the network has are loaded
    schema.MODEL.IMAGE_SIZE = [224, 224]  # width, height of the network's input, pixels
    extra = schema.MODEL.EXTRA = CfgNode()
    extra.STEM_INPLANES = 64
    extra.STAGE1 = _stage(1, 1, "BOTTLENECK", [4], [64])
    extra.STAGE2 = _stage(1, 2, "BASIC", [4, 4], [18, 36])
    extra.STAGE3 = _stage(4, 3, "BASIC", [4, 4, 4], [18, 36, 72])
    extra.STAGE4 = _stage(3, 4, "BASIC", [4, 4, 4, 4], [18, 36, 72, 144])
    extra.HEAD = CfgNode({"CHANNELS": [32, 64, 128, 256], "FEATURES": 2048})  # constants in upstream's code
    extra.SQUEEZE_EXCITE = False  # PaddleClas' SE_HRNet: a squeeze-and-excite gate in each residual block
    schema.register_deprecated_key("MODEL.EXTRA.STAGE1.NUM_RANCHES")  # misspelt in every upstream file

    schema.DATASET = CfgNode()
    schema.DATASET.FLIP = True  # flip half of the training images; set it to False if a flip changes the class

    schema.TRAIN.BATCH_SIZE_PER_GPU = 32
    schema.TRAIN.CROP_SCALE = [0.08, 1.0]  # smallest and largest share of a training image's area in a random crop
    # The next five values are those of upstream's experiments; its defaults differ.
    schema.TRAIN.OPTIMIZER = "sgd"
    schema.TRAIN.NESTEROV = True
    schema.TRAIN.LR = 0.05
    schema.TRAIN.LR_STEP = [30, 60, 90]
    schema.TRAIN.END_EPOCH = 100

    schema.TEST = CfgNode()
    schema.TEST.BATCH_SIZE_PER_GPU = 32

    schema.INPUT.RESIZE = 256  # short side after the resize, pixels; MODEL.IMAGE_SIZE is cropped from its centre
    schema.INPUT.RESIZER = "pillow"  # as torchvision and timm, antialiased; cv2: as PaddleClas, not antialiased
    schema.INPUT.INTERPOLATION = "bilinear"  # or bicubic; random crops of training are always bilinear, by Pillow

    schema.INPUT.CLASS_NAMES = []  # for printed and drawn results: a text file with one name per line, or a list

    schema.REFERENCE = CfgNode()  # published accuracy, for the gate; 0: unknown
    schema.REFERENCE.TOP1 = 0.0  # percent
    schema.REFERENCE.TOP5 = 0.0  # percent
    schema.REFERENCE.IMAGES = 0  # number of images that the figures were measured on
    schema.REFERENCE.PARAMS_M = 0.0  # million parameters
    schema.REFERENCE.SOURCE = ""
    return _add_ignored(schema, CLASSIFICATION)


def pose() -> CfgNode:
    schema = _common()
    schema.FP16 = CfgNode({"ENABLED": False})  # mixed precision in training

    schema.MODEL = CfgNode()
    schema.MODEL.NAME = POSE
    schema.MODEL.NUM_JOINTS = 17
    schema.MODEL.TAG_PER_JOINT = True  # True: a tag map for each joint; False: one for all, which cannot be decoded
    extra = schema.MODEL.EXTRA = CfgNode()
    extra.STEM_INPLANES = 64
    schema.MODEL.PRETRAINED = ""  # as in classification
    extra.PRETRAINED_LAYERS = ["*"]  # modules to load from PRETRAINED; *: all
    extra.FINAL_CONV_KERNEL = 1  # or 3
    extra.STAGE1 = _stage(1, 1, "BOTTLENECK", [4], [64])  # a constant in upstream's code
    extra.STAGE2 = _stage(1, 2, "BASIC", [4, 4], [32, 64])
    extra.STAGE3 = _stage(4, 3, "BASIC", [4, 4, 4], [32, 64, 128])
    extra.STAGE4 = _stage(3, 4, "BASIC", [4, 4, 4, 4], [32, 64, 128, 256])
    extra.DECONV = CfgNode()
    extra.DECONV.NUM_DECONVS = 1  # each doubles the resolution and adds an output; decoding supports only the value 1
    extra.DECONV.NUM_CHANNELS = [32]
    extra.DECONV.KERNEL_SIZE = [4]  # 2, 3 or 4
    extra.DECONV.NUM_BASIC_BLOCKS = 4
    extra.DECONV.CAT_OUTPUT = [True]  # the previous output is part of its input

    schema.LOSS = CfgNode()  # upstream's defaults have one output; its experiments have two
    schema.LOSS.WITH_HEATMAPS_LOSS = (True, True)
    schema.LOSS.HEATMAPS_LOSS_FACTOR = (1.0, 1.0)
    schema.LOSS.WITH_AE_LOSS = (True, False)  # which outputs have tag maps after their heatmaps
    schema.LOSS.AE_LOSS_TYPE = "max"  # or exp
    schema.LOSS.PUSH_LOSS_FACTOR = (0.001, 0.001)
    schema.LOSS.PULL_LOSS_FACTOR = (0.001, 0.001)

    schema.DATASET = CfgNode()
    schema.DATASET.MAX_NUM_PEOPLE = 30
    schema.DATASET.TRAIN = "train2017"  # split to train on
    schema.DATASET.TEST = "val2017"  # split to evaluate
    schema.DATASET.MAX_ROTATION = 30  # degrees
    schema.DATASET.MIN_SCALE = 0.75
    schema.DATASET.MAX_SCALE = 1.25
    schema.DATASET.SCALE_TYPE = "short"  # or long: the side of the image that the scale refers to
    schema.DATASET.MAX_TRANSLATE = 40  # in 1/200 of the side of the square that becomes the input
    schema.DATASET.INPUT_SIZE = 512  # short side of the network's input, pixels
    schema.DATASET.FLIP = 0.5  # probability
    schema.DATASET.SIGMA = -1  # of a joint's Gaussian, heatmap cells; negative: 1/64 of the heatmap's side
    schema.DATASET.SCALE_AWARE_SIGMA = False
    schema.DATASET.BASE_SIZE = 256.0
    schema.DATASET.BASE_SIGMA = 2.0
    schema.DATASET.INT_SIGMA = False
    schema.DATASET.WITH_CENTER = False

    schema.TRAIN.IMAGES_PER_GPU = 32  # batch size in each process

    schema.TEST = CfgNode()
    schema.TEST.ADJUST = True
    schema.TEST.REFINE = True
    schema.TEST.SCALE_FACTOR = [1]
    schema.TEST.DETECTION_THRESHOLD = 0.2
    schema.TEST.TAG_THRESHOLD = 1.0
    schema.TEST.USE_DETECTION_VAL = True
    schema.TEST.IGNORE_TOO_MUCH = False
    schema.TEST.NMS_KERNEL = 3  # upstream's default, as the next two; a config must give the values of POSE_TEST
    schema.TEST.NMS_PADDING = 1
    schema.TEST.PROJECT2IMAGE = False
    # upstream's default is (True,) for both, since its default network has one output
    schema.TEST.WITH_HEATMAPS = (True, True)
    schema.TEST.WITH_AE = (True, False)

    schema.INPUT.GEARS = []  # input shapes of the compiled model: [height, width] of each, pixels; or a file's path

    schema.REFERENCE = CfgNode()  # published accuracy, for the gate; 0: unknown
    schema.REFERENCE.AP = 0.0  # COCO's, percent, with the flip test
    schema.REFERENCE.IMAGES = 0  # number of images that AP was measured on
    schema.REFERENCE.PARAMS_M = 0.0  # million parameters
    schema.REFERENCE.SOURCE = ""
    return _add_ignored(schema, POSE)


def onnx_classifier() -> CfgNode:
    """The schema for an ONNX classifier: values that its file does not contain, or that `atc.classifier` adds."""
    known, schema = classification(), CfgNode()
    schema.MODEL = CfgNode({"NAME": ONNX})
    # 0: one for each score in the output; if the first score is a background class, give one less
    schema.MODEL.NUM_CLASSES = 0
    schema.MODEL.IMAGE_SIZE = []  # width, height, pixels; []: those of the file
    schema.INPUT, schema.REFERENCE = known.INPUT, known.REFERENCE
    schema.INPUT.RESIZE = 0  # 0: the short side of IMAGE_SIZE / 0.875
    return schema


SCHEMAS = {CLASSIFICATION: classification, POSE: pose, ONNX: onnx_classifier}
