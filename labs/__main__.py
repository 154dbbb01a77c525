"""``python -m labs 1``: what ``./reproduce.sh lab 1`` calls."""

import sys

from labs.run import main

sys.exit(main())
