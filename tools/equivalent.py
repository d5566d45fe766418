"""Do the committed records still say what today's code would? `make equivalent OLD=<commit>`, see
nbs/checks/check_equivalence.ipynb.

    make equivalent OLD=11a13f4               # all methods and profiles; what agrees goes into results/equivalent.json
    make equivalent OLD=11a13f4 methods=lf2,ssg
"""
import os
import sys

from papermill_run import make_parameters, parameters


def main():
    from lf2.config import RunError
    from lf2.equivalence import equivalent

    try:
        given = parameters(sys.argv[1:]) | make_parameters(os.environ.get("MAKEFLAGS", ""))
        if "OLD" not in given:
            raise RunError("the commit to compare with is missing: write make equivalent OLD=<commit>.")
        return 0 if equivalent(given["OLD"], given["methods"].split(",") if "methods" in given else None) else 1
    except RunError as e:
        print(f"{type(e).__name__}: {e}", file=sys.stderr)
        return 1


if __name__ == "__main__": sys.exit(main())
