"""`python -m ddlight` is the command `ddlight`."""

import sys

from ddlight.cli import main

if __name__ == "__main__":
    sys.exit(main())
