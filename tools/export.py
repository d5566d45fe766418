"""`make export model=… out=…`: an ONNX file of a network, its card, and the check of both.

    make export model=runs/RUN/teacher.safetensors                   # teacher.onnx beside it
    make export model=runs/RUN/teacher.safetensors out=FILE.onnx
"""
import sys

from lf2.commands import asked_of
from lf2.config import RunError

given = asked_of("export")
try:
    from lf2.export import main
    sys.exit(main([f"{k}={v}" for k, v in given.items()]))
except RunError as e: sys.exit(f"{type(e).__name__}: {e}")
