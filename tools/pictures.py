"""The PNGs in saved outputs with 256 colours, which look the same and take a third of the room; others stay. Of a
picture that is saved as JPEG too, the JPEG alone.

    python tools/pictures.py            # of every notebook
    python tools/pictures.py 82 fig_4   # of those whose names contain one of these
"""
import base64
import sys
from pathlib import Path

import nbformat

from lf2.figures import few_colours

ROOT = Path(__file__).resolve().parent.parent


def shrunk(path):
    """Bytes that the notebook's pictures took, and take."""
    nb, before, after = nbformat.read(path, as_version=4), 0, 0
    for out in (o for c in nb.cells if c.cell_type == "code" for o in c.outputs if "image/png" in o.get("data", {})):
        full = base64.b64decode(out["data"]["image/png"])
        few = few_colours(full) if "image/jpeg" not in out["data"] else b""
        before, after = before + len(full), after + len(few)
        if not few: del out["data"]["image/png"]
        elif few != full: out["data"]["image/png"] = base64.b64encode(few).decode()
    if after < before: nbformat.write(nb, path)
    return before, after


if __name__ == "__main__":
    for path in sorted((ROOT/"nbs").rglob("*.ipynb")):
        if sys.argv[1:] and not any(w in path.name for w in sys.argv[1:]): continue
        before, after = shrunk(path)
        if after < before: print(f"{path.name:30} {before/1e3:6.0f} kB -> {after/1e3:.0f} kB")
