"""`python -m cerebella` is the `cerebella` command; torchrun wants a module."""

import sys

from cerebella.cli import main

if __name__ == "__main__":
    sys.exit(main())
