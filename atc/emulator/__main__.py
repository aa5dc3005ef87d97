"""Run `python -m atc.emulator`."""

from __future__ import annotations

import sys

from atc.emulator import main

if __name__ == "__main__":
    sys.exit(main.main())
