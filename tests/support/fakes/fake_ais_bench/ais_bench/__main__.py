"""`python -m ais_bench`, as in the official package, whose modules are in `infer`."""

import sys

from ais_bench.infer.fake import main

sys.exit(main())
