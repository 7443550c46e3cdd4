"""`python -m stream.cli`: the same as `freshet`."""

import sys

from stream.cli import main

sys.exit(main())
