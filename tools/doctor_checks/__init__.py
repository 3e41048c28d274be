"""Checks of tools/doctor.py: one module for each section of its report.

Each check returns a Finding. The checks read files below Machine.root, and read environment variables, packages and
command outputs through Machine, so that tests can check a fake machine.
"""

import os.path
import sys

# Older Pythons cannot import the package, and would stop with a traceback.
if sys.version_info < (3, 10):  # noqa: UP036
    version = ".".join(map(str, sys.version_info[:2]))
    print(f"fault    Python: {version}, expected 3.10 to 3.12. Create an environment with another Python.")
    sys.exit(1)

# The doctor also works before the package is installed, because it checks the installation.
sys.path.append(os.path.realpath(f"{__file__}/../../../examples/det/ssd"))
