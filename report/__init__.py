"""HTML pages: `report.write` shows the records of one run, `report.index` compares several runs."""

# This import makes hrnet report a failed import in one line
import hrnet  # noqa: F401
