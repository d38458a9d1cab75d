"""``python -m muleteer_gateway``."""

import sys

from muleteer_gateway.server import main

if __name__ == "__main__":
    sys.exit(main())
