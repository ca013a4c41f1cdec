"""`python -m softigb`."""

import sys

from softigb.cli import main

sys.exit(main())
