#!/usr/bin/env bash
# Train to the end on 8 devices (or --nproc=N): bash ./train/train_full_8p.sh --data_path=/data/imagenet
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
train --nproc=8 "$@"
