"""Where accuracy is lost: by stage (`compare.classification`, `compare.pose`), by operator (`compare.operators`)."""

import hrnet  # noqa: F401 reports failed imports in one line
