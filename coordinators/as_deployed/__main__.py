"""`python -m coordinators.as_deployed` starts one instance from the environment."""

import sys

from coordinators.as_deployed.service import create_app
from coordinators.common.process import main

if __name__ == "__main__":
    sys.exit(main(create_app))
