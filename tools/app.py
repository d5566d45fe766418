"""`make app`: ranked lists side by side on 127.0.0.1, of the benchmark's runs or, with model=… gallery=…, of one's
own crops."""
import os
import sys

from lf2.commands import make_parameters, need
from lf2.config import RunError

try:
    given = make_parameters(os.environ.get("MAKEFLAGS", ""))
    need(given, {})
    from lf2.app import main
    sys.exit(main([*sys.argv[1:], *(f"{k}={v}" for k, v in given.items())]))
except RunError as e: sys.exit(f"{type(e).__name__}: {e}")
except KeyboardInterrupt: sys.exit(130)
