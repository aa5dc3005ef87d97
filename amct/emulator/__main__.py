"""Run `python -m amct.emulator`."""

from __future__ import annotations

import sys

from amct.emulator import main

if __name__ == "__main__":
    sys.exit(main.main())
