"""`make export model=… out=…`: an ONNX file of a network, its card, and the check of both."""
import os
import sys

from lf2.commands import TEACHER, make_parameters, need
from lf2.config import RunError

try:
    given = make_parameters(os.environ.get("MAKEFLAGS", ""))
    if not sys.argv[1:]: need(given, dict(model=TEACHER))
    from lf2.export import main
    sys.exit(main([*sys.argv[1:], *(f"{k}={v}" for k, v in given.items())]))
except RunError as e: sys.exit(f"{type(e).__name__}: {e}")
