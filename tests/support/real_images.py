"""Real images for tests: the environment variable TEST_DATA names a directory with imagenet/ and coco/."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support import ROOT

DATA = Path(os.environ.get("TEST_DATA") or ROOT.parent / "shared/data")
IMAGENET, COCO = DATA / "imagenet", DATA / "coco"
needs_imagenet = pytest.mark.skipif(not IMAGENET.is_dir(), reason=f"no {IMAGENET}; give TEST_DATA")
needs_coco = pytest.mark.skipif(not COCO.is_dir(), reason=f"no {COCO}; give TEST_DATA")
