"""The names and shapes of HRNet's weights in PaddleClas, in the order of its state dict, without PaddlePaddle.

Written class by class from ppcls/arch/backbone/legendary_models/hrnet.py of
https://github.com/PaddlePaddle/PaddleClas (Apache-2.0), without using our own names. The SHA-256 in `NETS` are of
PaddlePaddle's own lists.
"""

from __future__ import annotations

from collections.abc import Iterator

# Width, gates, and SHA-256 of the sorted lines `name [shape]` of PaddleClas' own state dict, commit d178931
NETS = {
    "hrnet_w18": (18, False, "5751a07484f8709c85511a551f8b42272e988861dc7f4537dc1bfadab4f29968"),
    "hrnet_w30": (30, False, "7b4fbf667776151aac207a1fbdf390a4ad2f45e83653a74c9f080e42eb1b6ba4"),
    "hrnet_w32": (32, False, "4e32a61e4e7155440b35844fd9d27d0bb247c0b47c1c5defdd4ced5f0ebb8874"),
    "hrnet_w40": (40, False, "aa43ef693650af0ac26834199dd624437f074c6848ff3db22a1b93d2f6522588"),
    "hrnet_w44": (44, False, "e12b1036d284a413296830d5420b2bc1d65adc718b7be8350230d1d04dae5fe8"),
    "hrnet_w48": (48, False, "0852b5df397cf9e6b7c8f4f3ce13114253da5e21124b936deae0bb02294e6683"),
    "hrnet_w64": (64, False, "478bc2c198c40f38840ef31ffb6d64163cc90d6e9fb17fc81dca5b2fea74747a"),
    "se_hrnet_w64_ssld": (64, True, "ee0ebd0afd84297ff592100b40b66c5975225453416676c62b519965db0c9173"),
}
NETS |= {f"{model}_ssld": NETS[model] for model in ("hrnet_w18", "hrnet_w48")}
Entry = tuple[str, list[int]]


def layer(name: str, inputs: int, outputs: int, kernel: int) -> Iterator[Entry]:
    """ConvBNLayer."""
    yield f"{name}.conv.weight", [outputs, inputs, kernel, kernel]
    for part in ("weight", "bias", "_mean", "_variance"):
        yield f"{name}.bn.{part}", [outputs]


def gate(name: str, channels: int) -> Iterator[Entry]:
    """SELayer: two linear layers."""
    for part, inputs, outputs in (
        ("fc_squeeze", channels, channels // 16),
        ("fc_excitation", channels // 16, channels),
    ):
        yield f"{name}.{part}.weight", [inputs, outputs]
        yield f"{name}.{part}.bias", [outputs]


def bottleneck(name: str, inputs: int, planes: int, gated: bool, down: bool) -> Iterator[Entry]:
    yield from layer(f"{name}.conv1", inputs, planes, 1)
    yield from layer(f"{name}.conv2", planes, planes, 3)
    yield from layer(f"{name}.conv3", planes, 4 * planes, 1)
    if down:
        yield from layer(f"{name}.conv_down", inputs, 4 * planes, 1)
    if gated:
        yield from gate(f"{name}.se", 4 * planes)


def stage(name: str, modules: int, widths: list[int], gated: bool) -> Iterator[Entry]:
    for module in range(modules):
        prefix = f"{name}.stage_func_list.{module}"
        for branch, width in enumerate(widths):
            for block in range(4):
                inside = f"{prefix}.basic_block_list.{branch}.{block}"
                yield from layer(f"{inside}.conv1", width, width, 3)
                yield from layer(f"{inside}.conv2", width, width, 3)
                if gated:
                    yield from gate(f"{inside}.se", width)
        number = 0
        for target, outputs in enumerate(widths):
            for source, inputs in enumerate(widths):
                shapes = [(inputs, inputs, 3)] * (target - source - 1) + [(inputs, outputs, 3)] * (source < target)
                for shape in shapes or [(inputs, outputs, 1)] * (source != target):
                    yield from layer(f"{prefix}.fuse_func.residual_func_list.{number}", *shape)
                    number += 1


def weights(width: int, gated: bool, classes: int = 1000) -> dict[str, list[int]]:
    """Name and shape of each weight of `HRNet(width=…, has_se=…)`."""

    def entries() -> Iterator[Entry]:
        yield from layer("conv_layer1_1", 3, 64, 3)
        yield from layer("conv_layer1_2", 64, 64, 3)
        for block in range(4):
            yield from bottleneck(f"layer1.{block}", 256 if block else 64, 64, gated, not block)
        yield from layer("conv_tr1_1", 256, width, 3)
        yield from layer("conv_tr1_2", 256, 2 * width, 3)
        yield from stage("st2", 1, [width, 2 * width], gated)
        yield from layer("conv_tr2", 2 * width, 4 * width, 3)
        yield from stage("st3", 4, [width, 2 * width, 4 * width], gated)
        yield from layer("conv_tr3", 4 * width, 8 * width, 3)
        yield from stage("st4", 3, [width, 2 * width, 4 * width, 8 * width], gated)
        for branch in range(4):
            yield from bottleneck(f"last_cls.func_list.{branch}", width << branch, 32 << branch, gated, True)
        for branch in range(3):
            yield from layer(f"cls_head_conv_list.{branch}", 128 << branch, 256 << branch, 3)
        yield from layer("conv_last", 1024, 2048, 1)
        yield "fc.weight", [2048, classes]
        yield "fc.bias", [classes]

    return dict(entries())
