"""Write a run's records as one page: `report.write`, and several runs as one table: `report.index`."""

import hrnet  # noqa: F401 reports failed imports in one line
