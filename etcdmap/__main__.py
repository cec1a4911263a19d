"""``python -m etcdmap``: see `etcdmap.cli`."""

import sys

from etcdmap.cli import main

if __name__ == "__main__":
    sys.exit(main())
