"""Run by a Python with paddlepaddle: write a seeded net of PaddleClas as net.pdparams, two images and
their logits.

python run_paddleclas.py <checkout of PaddleClas> <width> se|plain <form> <output folder>

Forms of net.pdparams: 2, 3, 4 (pickle's protocol), nested (in a dictionary), student (names begin with `Student.`), or
safetensors.
"""

import logging
import sys
import types
from pathlib import Path

import numpy as np
import paddle

BACKBONE = "ppcls.arch.backbone"


def load_module(checkout):
    """ppcls.arch.backbone.legendary_models.hrnet, without its parent packages, which import many others."""
    for name in ("ppcls", "ppcls.arch", BACKBONE, f"{BACKBONE}.base", f"{BACKBONE}.legendary_models", "ppcls.utils"):
        package = types.ModuleType(name)
        package.__path__ = [] if name == "ppcls.utils" else [str(checkout.joinpath(*name.split(".")))]
        sys.modules[name] = package
    sys.modules["ppcls.utils"].logger = logging.getLogger("ppcls")
    sys.modules["ppcls.utils.save_load"] = module = types.ModuleType("ppcls.utils.save_load")
    module.load_dygraph_pretrain = None
    from ppcls.arch.backbone.legendary_models import hrnet

    return hrnet


def seeded(name, shape, generator):
    """Values of a usual scale, all different, so that exchanged weights are noticed."""
    if name.endswith("_variance"):
        return generator.uniform(0.5, 1.5, shape)
    if name.endswith("bn.weight"):
        return generator.uniform(0.2, 0.5, shape)
    if len(shape) == 1:
        return generator.normal(0, 0.1, shape)
    inputs = shape[0] if len(shape) == 2 else np.prod(shape[1:])
    return generator.normal(0, (2 / inputs) ** 0.5, shape)


def main():
    checkout, width, gates, form, output = sys.argv[1:]
    output = Path(output)
    net = load_module(Path(checkout)).HRNet(width=int(width), has_se=gates == "se", stages_pattern=["st4"])
    net.eval()
    generator = np.random.default_rng(0)
    for name, value in net.state_dict().items():
        value.set_value(paddle.to_tensor(seeded(name, tuple(value.shape), generator).astype("float32")))
    state = net.state_dict()
    if form == "student":
        state = {f"Student.{name}": value for name, value in state.items()}
    if form == "nested":
        paddle.save({"model": state, "epoch": 3}, str(output / "net.pdparams"))
    elif form == "safetensors":
        paddle.save(state, str(output / "net.pdparams"), safetensors=True)
    else:
        paddle.save(state, str(output / "net.pdparams"), protocol=int(form) if form.isdigit() else 4)
    image = generator.normal(0, 1, (2, 3, 224, 224)).astype("float32")
    with paddle.no_grad():
        np.save(output / "logits.npy", net(paddle.to_tensor(image)).numpy())
    np.save(output / "image.npy", image)


main()
