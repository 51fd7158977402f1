"""`python -m coordinators.hardened` starts one instance from the environment."""

import sys

from coordinators.common.process import main
from coordinators.hardened.service import create_app

if __name__ == "__main__":
    sys.exit(main(create_app))
