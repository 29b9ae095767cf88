"""`python -m tpo_plugin`, the form that `torchrun -m` takes."""

import sys

from tpo_plugin.cli import main

sys.exit(main())
