"""HTML pages: `report.write` shows the records of one run, `report.index` compares several runs."""

import hrnet  # noqa: F401 reports failed imports in one line
