"""Do the committed records still say what today's code would? `make equivalent OLD=<commit>`, see
nbs/checks/check_equivalence.ipynb.

    make equivalent OLD=11a13f4               # all methods and profiles; what agrees goes into results/equivalent.json
    make equivalent OLD=11a13f4 methods=lf2,ssg
"""
import sys

from lf2.commands import asked_of
from lf2.config import RunError

given = asked_of("equivalent")
try:
    from lf2.equivalence import equivalent
    sys.exit(0 if equivalent(given["OLD"], given["methods"].split(",") if "methods" in given else None) else 1)
except RunError as e: sys.exit(f"{type(e).__name__}: {e}")
