"""``python -m selfseg``."""

import sys

from selfseg.apps.cli import main

sys.exit(main())
