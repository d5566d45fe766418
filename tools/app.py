"""`make app`: ranked lists side by side on 127.0.0.1, of the benchmark's runs or, with model=… gallery=…, of one's
own crops.

    make app                                          # direct transfer, baseline and LF² of the runs in runs/
    make app runs=FOLDER port=8765 k=10               # of another folder; ten crops a list
    make app model=A.safetensors,B.safetensors gallery=/my/crops pattern='cam(?P<cam>\\d+)/' out=FOLDER
                                                      # further: on_bad_image=skip, precision=fp32
"""
import sys

from lf2.commands import asked_of
from lf2.config import RunError

given = asked_of("app")
try:
    from lf2.app import main
    sys.exit(main([f"{k}={v}" for k, v in given.items()]))
except RunError as e: sys.exit(f"{type(e).__name__}: {e}")
except KeyboardInterrupt: sys.exit(130)
