"""`python -m relearn_jax`."""

import sys

from relearn_jax.cli import main

sys.exit(main())
