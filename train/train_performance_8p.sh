#!/usr/bin/env bash
# Time 200 steps (or --stop_step=N) on 8 devices (or --nproc=N): bash ./train/train_performance_8p.sh --data_path=DIR
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
train --nproc=8 --stop_step=200 "$@"
