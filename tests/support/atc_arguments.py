"""Arguments of atc.emulator, and the gears of the model zoo's atc command."""

from __future__ import annotations

from pathlib import Path

HIGHER_HRNET_GEARS = (  # of the model zoo's command
    "1024,512;960,512;896,512;832,512;768,512;704,512;640,512;576,512;512,512;"
    "512,576;512,640;512,704;512,768;512,832;512,896;512,960;512,1024"
)


def command_of(folder: Path, **changes: str) -> list[str]:
    """The emulator's arguments that compile `folder`/model.onnx to `folder`/out.onnx."""
    arguments = {
        "framework": "5",
        "model": str(folder / "model.onnx"),
        "input_format": "NCHW",
        "input_shape": "image:16,3,16,16",
        "output": str(folder / "out"),
        "soc_version": "Ascend310P3",
        "log": "error",
        **changes,
    }
    return [f"--{name}={value}" for name, value in arguments.items()]
