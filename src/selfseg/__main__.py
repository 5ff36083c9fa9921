"""``python -m selfseg``."""

import sys

from selfseg.apps.cli import main

if __name__ == "__main__":  # processes that are spawned import this file again, under another name
    sys.exit(main())
