#!/usr/bin/env bash
# Train to the end on one device: bash ./train/train_full_1p.sh --data_path=/data/imagenet
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
train "$@"
