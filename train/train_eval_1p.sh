#!/usr/bin/env bash
# Validate model_best.pth.tar (or --weights=FILE): bash ./train/train_eval_1p.sh --data_path=/data/imagenet
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
train --eval "$@"
