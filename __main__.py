"""`python -m pyramid_video` is the command line."""

import sys

from .runner.cli import main

sys.exit(main())
