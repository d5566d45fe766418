"""README.md from nbs/index.ipynb, with nbconvert: python tools/readme.py [OUTPUT]

Cells with `#| hide` are left out, `#|` lines are dropped, links are rewritten for the top folder. Pictures are files
in figures/."""
import re
import sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parent.parent
DIRECTIVE = re.compile(r"^\s*#\s*\|\s*(\w+):?\s*(\S*).*$", re.MULTILINE)
SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:|[/#]")


def prepare(nb):
    """Drops hidden cells, `#|` lines, error streams and what only a browser page needs."""
    kept = []
    for cell in nb.cells:
        told = dict(DIRECTIVE.findall(cell.source)) if cell.cell_type == "code" else {}
        if "hide" in told or told.get("include") == "false": continue
        cell.source = DIRECTIVE.sub("", cell.source).strip("\n") if cell.cell_type == "code" else cell.source
        if cell.cell_type == "code":
            cell.outputs = [] if told.get("output") == "false" else [o for o in cell.outputs
                if o.get("name") != "stderr"]
            for out in cell.outputs:
                if "text/html" in out.get("data", {}):
                    out.data["text/html"] = re.sub(r"<style.*?</style>\s*", "", out.data["text/html"], flags=re.DOTALL)
            if told.get("echo") == "false": cell.source = ""
            if not cell.source and not cell.outputs: continue
        kept.append(cell)
    nb.cells, nb.metadata["language_info"] = kept, {"name": "python"}  # cleaning drops the language
    return nb


def rebase(target):
    """A link that is right in nbs/, made right for the top folder."""
    if SCHEME.match(target): return target
    if target.startswith("../"): return target[3:]
    return f"nbs/{target.removeprefix('./')}"


def convert(notebook):
    """The README's text."""
    wanted = ["text/markdown", "text/html", "image/svg+xml", "image/png", "text/plain"]
    exporter = MarkdownExporter(config={"NbConvertBase": {"display_data_priority": wanted}})
    text, resources = exporter.from_notebook_node(prepare(nbformat.read(notebook, as_version=4)))
    if resources.get("outputs"):
        raise SystemExit(f"{notebook.name}: an output holds a picture: save it in figures/ and show that file with "
                         "![...](../figures/...).")
    fences = re.split(r"(^```.*?^```[^\n]*$)", text, flags=re.MULTILINE | re.DOTALL)
    for i in range(0, len(fences), 2):  # links outside code
        part = re.sub(r"(\]\()([^)\s]+)", lambda m: m[1] + rebase(m[2]), fences[i])
        fences[i] = re.sub(r"""((?:src|href)=["'])([^"']+)""", lambda m: m[1] + rebase(m[2]), part)
    text = re.sub(r"^```python\n\s*```\n", "", "".join(fences), flags=re.MULTILINE)
    text = "\n".join(line.rstrip() for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def main():
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT/"README.md"
    note = "<!-- Made from nbs/index.ipynb by tools/readme.py; edit it there. -->\n\n"
    out.write_text(note + convert(ROOT/"nbs"/"index.ipynb"), encoding="utf-8")


if __name__ == "__main__": main()
