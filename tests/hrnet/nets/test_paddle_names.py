"""hrnet/nets/paddle_names.py: single names, loading, and the logits of all nets of PaddleClas (slow).

The slow tests run PaddleClas' own nets. They need a Python with paddlepaddle (3.2.2 was used) and a checkout of
https://github.com/PaddlePaddle/PaddleClas: PADDLE_PYTHON=<python> PADDLECLAS=<folder>.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hrnet.cli import UserError
from hrnet.config import CONFIGS, load_config
from hrnet.nets import checkpoint, classification
from hrnet.nets.paddle_names import has_paddle_names, to_upstream_names
from tests.support import ROOT
from tests.support.paddleclas import NETS, weights

# The places in upstream's fuse_layers of stage 4, in the order of PaddleClas' residual_func_list. For a source of lower
# resolution: target.source. For a source of higher resolution: target.source.n, where n is the index, from
# 0, of one of the convolutions that halve the resolution.
FUSED = [
    *("0.1", "0.2", "0.3", "1.0.0", "1.2", "1.3", "2.0.0", "2.0.1", "2.1.0", "2.3"),
    *("3.0.0", "3.0.1", "3.0.2", "3.1.0", "3.1.1", "3.2.0"),
]


@pytest.mark.parametrize("prefix", ["", "Student.", "backbone."])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("conv_layer1_2.bn._variance", "bn2.running_var"),
        ("conv_layer1_1.conv.weight", "conv1.weight"),
        ("layer1.0.conv_down.bn._mean", "layer1.0.downsample.1.running_mean"),
        ("layer1.3.se.fc_squeeze.bias", "layer1.3.se.squeeze.bias"),
        ("conv_tr1_2.conv.weight", "transition1.1.0.0.weight"),
        ("conv_tr3.bn.weight", "transition3.3.0.1.weight"),
        ("st3.stage_func_list.2.basic_block_list.1.3.conv2.bn.bias", "stage3.2.branches.1.3.bn2.bias"),
        ("last_cls.func_list.3.conv_down.conv.weight", "incre_modules.3.0.downsample.0.weight"),
        ("cls_head_conv_list.2.bn.bias", "downsamp_modules.2.1.bias"),
        ("fc.bias", "classifier.bias"),
        *(
            (
                f"st4.stage_func_list.1.fuse_func.residual_func_list.{n}.conv.weight",
                f"stage4.1.fuse_layers.{at}.0.weight",
            )
            for n, at in enumerate(FUSED)
        ),
    ],
)
def test_single_names(name: str, expected: str, prefix: str) -> None:
    assert list(to_upstream_names({prefix + name: torch.ones(2)})) == [prefix + expected]


def test_linear_weights_are_transposed() -> None:
    weight = torch.arange(6.0).reshape(2, 3)
    state = to_upstream_names(
        {"fc.weight": weight, "layer1.0.se.fc_excitation.weight": weight, "conv_last.bn.weight": weight[0]}
    )
    assert torch.equal(state["classifier.weight"], weight.t())
    assert torch.equal(state["layer1.0.se.excite.weight"], weight.t().reshape(3, 2, 1, 1))
    assert torch.equal(state["final_layer.1.weight"], weight[0])


def test_an_unknown_layer_keeps_its_number() -> None:
    name = "st2.stage_func_list.0.fuse_func.residual_func_list.2.conv.weight"
    assert list(to_upstream_names({name: 0})) == ["stage2.0.fuse_layers.2.0.weight"]


def test_names_of_other_networks_are_not_converted() -> None:
    assert not has_paddle_names({"conv1.weight": 0, "fc.weight": 0, 3: 0})
    assert has_paddle_names({"Student.conv_layer1_1.conv.weight": 0})


NARROW = """
MODEL:
  NUM_CLASSES: 3
  EXTRA:
    SQUEEZE_EXCITE: {gated}
    STAGE2: {{NUM_CHANNELS: [16, 32]}}
    STAGE3: {{NUM_CHANNELS: [16, 32, 64]}}
    STAGE4: {{NUM_CHANNELS: [16, 32, 64, 128]}}
"""


@pytest.fixture(scope="class")
def net(tmp_path_factory: pytest.TempPathFactory, gated: bool) -> classification.ClassificationNet:
    path = tmp_path_factory.mktemp("narrow") / "narrow.yaml"
    path.write_text(NARROW.format(gated=gated))
    return classification.build(load_config(path))


@pytest.fixture(scope="class")
def arrays(gated: bool) -> dict[str, np.ndarray]:
    """The weights of a narrow net; all values of weight i are i."""
    return {name: np.full(shape, i, np.float32) for i, (name, shape) in enumerate(weights(16, gated, 3).items())}


class TestLoading:
    """A narrow net of PaddleClas, as a file that NumPy and pickle write."""

    def write(self, path: Path, arrays: dict[str, np.ndarray]) -> Path:
        path.write_bytes(pickle.dumps({**arrays, "StructuredToParameterName@@": {}}, 4))
        return path

    @pytest.mark.parametrize(
        ("gated", "name", "prefix"), [(True, "net.pdparams", ""), (False, "net.pth", "Student.")], scope="class"
    )
    def test_all_weights(self, tmp_path: Path, net, arrays, gated: bool, prefix: str, name: str) -> None:
        lines: list[str] = []
        path = self.write(tmp_path / name, {prefix + key: value for key, value in arrays.items()})
        checkpoint.load(net, path, lines.append)
        expected = {0.0, *(float(value.flat[0]) for value in arrays.values())}
        assert {float(value.flatten()[0]) for value in net.state_dict().values()} == expected
        assert "PaddleClas' names" in lines[0] and ("4 biases" in lines[0]) == (not gated)
        assert ("prefix Student. removed" in lines[0]) == bool(prefix)

    @pytest.mark.parametrize("gated", [False], scope="class")
    def test_rejections(self, tmp_path: Path, net, arrays, gated: bool) -> None:
        both = {f"{prefix}.{key}": value for prefix in ("Student", "Teacher") for key, value in arrays.items()}
        without = {key: value for key, value in arrays.items() if key != "conv_tr2.bn._mean"}
        with_complex = {**arrays, "fc.weight": arrays["fc.weight"].astype(np.complex64)}
        for content, part in (
            (both, "the prefix Student. and "),
            (without, "missing: transition2.2.0.1.running_mean"),
            ({**arrays, "conv_tr2.bn._mean": np.zeros(3, np.float32)}, "transition2.2.0.1.running_mean [3] for [64]"),
            ({**arrays, "fc.bias": np.full(3, np.nan, np.float32)}, "classifier.bias"),
            (with_complex, "c8"),
        ):
            with pytest.raises(UserError) as caught:
                checkpoint.load(net, self.write(tmp_path / "a.pdparams", content), lambda line: None)
            assert part in str(caught.value) and "\n" not in str(caught.value)

    @pytest.mark.parametrize("gated", [False], scope="class")
    def test_bfloat16_is_reported(self, tmp_path: Path, net, arrays, gated: bool) -> None:
        lines: list[str] = []
        one = (np.float32(1.5).view(np.uint32) >> 16).astype(np.uint16)
        halves = {key: np.full(value.shape, one) for key, value in arrays.items()}
        checkpoint.load(net, self.write(tmp_path / "a.pdparams", halves), lines.append)
        assert "bfloat16 converted to float32" in lines[0] and bool((net.classifier.weight == 1.5).all())


class TestBesidePaddle:
    """PaddlePaddle writes the files and computes the logits."""

    @pytest.fixture
    def run(self, tmp_path: Path):
        python, folder = os.environ.get("PADDLE_PYTHON"), os.environ.get("PADDLECLAS")
        if not python or not folder:
            pytest.skip("no PADDLE_PYTHON and PADDLECLAS: a Python with paddlepaddle and a checkout of PaddleClas")

        def run(model: str, form: str) -> tuple[Path, np.ndarray, np.ndarray]:
            """The file of seeded weights that PaddlePaddle wrote, two images [2, 3, 224, 224], and their logits."""
            script = ROOT / "tests/support/run_paddleclas.py"
            width, gated, _ = NETS[model]
            command = [python, str(script), folder, str(width), "se" if gated else "plain", form, str(tmp_path)]
            subprocess.run(command, check=True, capture_output=True, text=True)
            return tmp_path / "net.pdparams", np.load(tmp_path / "image.npy"), np.load(tmp_path / "logits.npy")

        return run

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("model", "form"),
        [
            *((model, "4") for model in NETS if model not in ("hrnet_w18_ssld", "hrnet_w48_ssld")),
            *(("hrnet_w18", form) for form in ("2", "3", "nested", "student", "safetensors")),
        ],
    )
    def test_logits(self, run, model: str, form: str) -> None:
        path, image, logits = run(model, form)
        net = classification.build(load_config(CONFIGS / f"{model}.yaml"))
        lines: list[str] = []
        checkpoint.load(net, path, lines.append)
        assert ("prefix Student. removed" in lines[0]) == (form == "student")
        with torch.no_grad():
            ours = net.eval()(torch.from_numpy(image)).numpy()
        assert np.abs(ours - logits).max() < 2e-5 * logits.std()

    @pytest.mark.slow
    @pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc, which reports the peak of memory")
    def test_half_a_gigabyte_is_never_in_memory_twice(self, run) -> None:
        path, _, _ = run("se_hrnet_w64_ssld", "4")
        assert path.stat().st_size > 515e6
        code = (
            "import sys, time; from hrnet.nets import paddle_file; started = time.monotonic();"
            "paddle_file.read(sys.argv[1]); print(time.monotonic() - started);"
            "print(*(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
        )
        out = subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True).stdout
        seconds, kibibytes = map(float, out.split())
        print(f"{seconds:.2f} s, {kibibytes * 1024 / 1e9:.2f} GB")
        assert kibibytes * 1024 < 1.2e9
