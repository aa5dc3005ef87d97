#!/usr/bin/env bash
# Time 200 steps (or --stop_step=N) on one device: bash ./train/train_performance_1p.sh --data_path=/data/imagenet
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
train --stop_step=200 "$@"
