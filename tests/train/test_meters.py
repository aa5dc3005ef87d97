"""train/meters.py: the model zoo's exact lines, and averages for any number of steps."""

from __future__ import annotations

import platform

import pytest

from train import meters
from train.recipe import Outcome


def meter(*seconds: float) -> meters.Meter:
    found = meters.Meter(512)
    for number, each in enumerate(seconds):
        found.add(each, {"loss": 2.0 + number, "top1": 10.0 * number, "top5": 50.0})
    return found


def test_a_step_line_equals_the_model_zoos() -> None:
    line = meter(1.0, 6.0883).step_line(3, 200, 5004, 0.0412)
    assert line == (
        "Epoch: [3][200/5004]\t\tTime 6.088s\t\tFPS 84.1\t\tData 0.041s\t\tLoss 3.00000\t\t"
        "Accuracy@1 10.000\t\tAccuracy@5 50.000\t\t"
    )
    assert line.split()[5] == "84.1" and line.split()[9] == "3.00000", "fields that the model zoo's scripts read"


@pytest.mark.parametrize("steps", [1, 4, 5, 6, 10, 11])
def test_averages_leave_out_the_first_steps_of_longer_epochs(steps: int) -> None:
    found = meter(*range(1, steps + 1))
    counted = range(6, steps + 1) if steps > 5 else range(1, steps + 1)
    seconds = sum(counted) / len(counted)
    assert found.images_per_second() == pytest.approx(512 / seconds)
    assert found.average_line() == (
        f"\nData Average :\t\tTime_Avg {seconds:.3f}s\t\tFps_Avg {512 / seconds:.1f}\t\tLoss {seconds + 1:.5f}\t\t"
        f"Accuracy@1_Avg {10 * (seconds - 1):.3f}\t\t"
    )


def test_the_validation_line_equals_the_model_zoos() -> None:
    line = meters.test_line(0.25, 0.98765, 76.456, 93.14)
    assert line == (
        "Test: Time 0.250\tLoss 0.9877\tError@1 23.544\tError@5 6.860\tAccuracy@1 76.456\tAccuracy@5 93.140\t"
    )
    assert line.split()[10] == "76.456", "fields that the model zoo's scripts read"


def test_the_result_lines_equal_the_model_zoos() -> None:
    result = meters.Result("hrnet_w18", 8, 256, "acc", Outcome(533.2, 76.4601, 1.234567), 36000.4)
    assert "\n".join(result.block()) == (
        "------------------ Final result ------------------\nFinal Performance images/sec : 533.2\n"
        "Final Train Accuracy : 76.460\nE2E Training Duration sec : 36000"
    )
    assert result.text() == (
        f"Network = hrnet_w18\nRankSize = 8\nBatchSize = 256\nDeviceType = {platform.machine()}\n"
        "CaseName = hrnet_w18_bs256_8p_acc\nActualFPS = 533.2\nTrainingTime = 3840.96\nTrainAccuracy = 76.460\n"
        "ActualLoss = 1.23457\nE2ETrainingTime = 36000\n"
    )


def test_a_task_without_accuracy_leaves_it_out() -> None:
    found = meters.Meter(8)
    found.add(2.0, {"loss": 0.5, "heatmap1": 0.25, "push1": 0.25})
    assert found.step_line(0, 0, 5, 0.1).endswith("Loss 0.50000\t\theatmap1 0.25000\t\tpush1 0.25000\t\t")
    assert found.average_line().endswith("Loss 0.50000\t\theatmap1_Avg 0.25000\t\tpush1_Avg 0.25000\t\t")
    result = meters.Result("demo_pose", 1, 8, "acc", Outcome(40.0, None, 0.5), 10)
    assert not any("Accuracy" in line for line in [*result.block(), result.text()])
