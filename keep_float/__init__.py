"""Find the operators that should stay in float: `keep_float.search`."""

import hrnet  # noqa: F401 reports failed imports in one line
