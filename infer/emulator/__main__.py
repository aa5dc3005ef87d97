"""Run `python -m infer.emulator`."""

from __future__ import annotations

import sys

from infer.emulator import main

if __name__ == "__main__":
    sys.exit(main.main())
