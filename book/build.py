"""All notebooks, as they are saved, rendered into _book/, offline: `make book`, with book/requirements.txt's packages.

    python book/build.py            # the book
    python book/build.py --links    # only: does every link of every notebook and page lead somewhere? (no package)
"""
import ast
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NBS, OUT = ROOT/"nbs", ROOT/"_book"
PARTS = {"Use it": ["run_*", "use/*"], "Foundations": ["core/*"], "Methods": ["methods/*"],
         "What was measured": ["paper/*"], "Checks": ["checks/*"]}
PAGES = ["questions", "glossary"]  # book/*.md
LINK = re.compile(r"(\]\()([^)\s]+)(\))")
WORDS = re.compile(r"(?<!!)\[([^\[\]]*)\]\(([^)\s]+)\)")
DIRECTIVE = re.compile(r"^#\s*\|.*\n?", re.MULTILINE)
KEEP = re.compile(r"(^[#>|][^\n]*|^```.*?^```|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]+\$|!?\[[^\]]*\]\([^)]*\)|<[^>\n]+>"
                  r"|\*\*[^*\n]+\*\*)", re.MULTILINE | re.DOTALL)
SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:")


def notebooks(patterns): return [p for pattern in patterns for p in sorted(NBS.glob(f"{pattern}.ipynb"))]


def chapters(): return {part: notebooks(patterns) for part, patterns in PARTS.items()}


def texts(path):
    """The Markdown of a notebook or page, code blocks left out."""
    if path.suffix == ".md": cells = [path.read_text(encoding="utf-8")]
    else:
        cells = ["".join(c["source"]) for c in json.loads(path.read_text(encoding="utf-8"))["cells"]
                 if c["cell_type"] == "markdown"]
    return [re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL) for text in cells]


def slug(heading):
    """A heading's anchor, as GitHub and the book make it."""
    return re.sub(r"[^\w\- ]", "", re.sub(r"[*`$\\]", "", heading).strip().lower()).replace(" ", "-")


def anchors(path): return {slug(h) for text in texts(path) for h in re.findall(r"^#+ +(.*)$", text, re.MULTILINE)}


def lost_links():
    """Links of notebooks and pages to a file or a heading that is not there: "page: link"."""
    pages, lost = [*sorted(NBS.rglob("*.ipynb")), *(ROOT/"book"/f"{p}.md" for p in PAGES)], []
    for page in pages:
        for target in (m[1] for text in texts(page) for m in LINK.findall(text)):
            file, _, anchor = target.partition("#")
            if SCHEME.match(target): continue
            there = page.parent/file if file else page
            wrong = not there.exists() or (anchor and there.suffix in (".md", ".ipynb")
                                           and anchor not in anchors(there))
            if wrong: lost.append(f"{page.relative_to(ROOT)}: {target}")
    return lost


def rebased(text, page, stage):
    """Links to pictures and files that are no page: the file goes along below files/; folders and Markdown tables lose
    their link."""
    def file_of(target): return (page.parent/target.partition("#")[0]).resolve()
    def kept(target):
        return SCHEME.match(target) or target.startswith("#") or target.partition("#")[0].endswith(".ipynb")
    def words(m):
        return m[0] if kept(m[2]) or (file_of(m[2]).is_file()
            and (file_of(m[2]).suffix != ".md" or file_of(m[2]).parent.name == "book")) else m[1]
    def moved(target):
        up = "../"*len(page.relative_to(NBS).parts[:-1])
        if re.search(r"\bbook/\w+\.md", target): return up + target.rpartition("book/")[2]
        if kept(target) or not file_of(target).is_file(): return target
        name = file_of(target).relative_to(ROOT)
        (stage/"files"/name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT/name, stage/"files"/name)
        return f"{up}files/{name}"
    text = LINK.sub(lambda m: m[1] + moved(m[2]) + m[3], WORDS.sub(words, text))
    return re.sub(r"""((?:src|href)=["'])([^"']+)""", lambda m: m[1] + moved(m[2]), text)


def words_of_the_field():
    """Word → its heading's anchor in the glossary; "AP, mAP" are two words."""
    headings = re.findall(r"^## +(.*)$", (ROOT/"book"/"glossary.md").read_text(encoding="utf-8"), re.MULTILINE)
    return {word.strip(): slug(h) for h in headings for word in re.split(r",|[()]", h) if word.strip()}


def explained(text, words, up):
    """Links the first of each word of the field to the glossary, outside of headings, code, equations and links; takes
    what it links out of `words`."""
    if not words: return text
    longest_first = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
    word = re.compile(rf"(?<![\w-])({longest_first})s?(?![\w-]| code)", re.IGNORECASE)
    def link(m):
        key = m[1] if m[1] in words else m[1].lower()
        return f"[{m[0]}]({up}glossary.md#{words.pop(key)})" if key in words else m[0]
    return "".join(piece if i % 2 else word.sub(link, piece) for i, piece in enumerate(KEEP.split(text)))


def folded(source):
    """Is a cell only imports or settings, which a reader need not see at once?"""
    try: body = ast.parse(re.sub(r"^\s*[%!].*$", "", source, flags=re.MULTILINE)).body
    except SyntaxError: return False
    return bool(body) and all(isinstance(n, ast.Import | ast.ImportFrom) for n in body)


def joined(cells):
    """Folded cells that follow each other, but for the last without outputs, as one."""
    kept = []
    for cell in cells:
        before = kept[-1] if kept else cell
        if all("hide-input" in c["metadata"].get("tags", [])
               for c in (before, cell)) and before is not cell and not before["outputs"]:
            cell["source"] = f"{before['source']}\n\n{cell['source']}"
            kept.pop()
        kept.append(cell)
    return kept


def prepared(path, stage):
    """The notebook as the book shows it: hidden cells out, directives out, imports folded, and all code where papermill
    runs the notebook."""
    nb = json.loads(path.read_text(encoding="utf-8"))
    kept, words, up = [], words_of_the_field(), "../"*len(path.relative_to(NBS).parts[:-1])
    papermill = any("parameters" in c["metadata"].get("tags", []) for c in nb["cells"])
    for cell in nb["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown": cell["source"] = explained(rebased(source, path, stage), words, up)
        else:
            told = dict(re.findall(r"^#\s*\|\s*(\w+):? *(\w*)", source, re.MULTILINE))
            if told.keys() & {"hide", "default_exp"}: continue
            cell["source"] = DIRECTIVE.sub("", source).strip("\n")
            cell["outputs"] = [o for o in cell["outputs"] if o.get("name") != "stderr"]
            if not cell["source"] and not cell["outputs"]: continue
            how = ("remove-input" if told.get("echo") == "false" else "hide-input" if papermill
                   or folded(cell["source"]) else "")
            if how: cell["metadata"].setdefault("tags", []).append(how)
        kept.append(cell)
    nb["cells"] = joined(kept)
    nb["metadata"] = {"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"},
                      "language_info": {"name": "python", "pygments_lexer": "ipython3"}}
    return nb


def described(node, lines):
    """A public function or class as its source says it: signature with what is told of each parameter, and the
    docstring."""
    doc = ast.get_docstring(node) or ""
    first = node.body[0].lineno if node.lineno != node.body[0].lineno else node.lineno + 1
    head = "\n".join(lines[node.lineno - 1:first - 1]).rstrip()
    return f"## {node.name}\n\n{doc}\n\n```python\n{head}\n```\n"


def api_page(module):
    """Markdown of what a module exports, from its source: nothing is imported."""
    text = module.read_text(encoding="utf-8")
    tree, name = ast.parse(text), str(module.relative_to(ROOT).with_suffix("")).replace("/", ".")
    public = next((ast.literal_eval(n.value) for n in tree.body if isinstance(n, ast.Assign)
                   and getattr(n.targets[0], "id", "") == "__all__"), [])
    nodes = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name in public]
    made = re.search(r"File to edit: (?:\.\./)+nbs/(\S+?\.ipynb)", text)
    where = f"\n\nWritten and explained in [{Path(made[1]).stem}](../{made[1]})." if made else ""
    return name, f"# {name}\n\n{ast.get_docstring(tree) or ''}{where}\n\n" + "\n".join(described(n, text.split("\n"))
        for n in nodes)


def toctree(caption, documents):
    lines = "\n".join(documents)
    return f"```{{toctree}}\n:caption: {caption}\n:maxdepth: 1\n:hidden:\n\n{lines}\n```\n"


def lay_out(stage):
    """Everything that Sphinx reads, in `stage`."""
    modules = [api_page(p) for p in sorted((ROOT/"lf2").rglob("*.py")) if p.name not in ("__init__.py", "_modidx.py")]
    (stage/"api").mkdir()
    for name, text in modules: (stage/"api"/f"{name}.md").write_text(text, encoding="utf-8")
    trees = toctree("Start", PAGES)
    for part, found in chapters().items():
        trees += toctree(part, [str(p.relative_to(NBS).with_suffix("")) for p in found])
    trees += toctree("API", [f"api/{name}" for name, _ in modules])
    for path in sorted(NBS.rglob("*.ipynb")):
        nb = prepared(path, stage)
        if path.name == "index.ipynb":
            nb["cells"].append(dict(cell_type="markdown", id="contents", metadata={}, source=trees))
        to = stage/path.relative_to(NBS)
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_text(json.dumps(nb), encoding="utf-8")
    for page in PAGES:
        (stage/f"{page}.md").write_text((ROOT/"book"/f"{page}.md").read_text(encoding="utf-8").replace("](../nbs/",
            "]("), encoding="utf-8")
    shutil.copytree(ROOT/"book"/"_static", stage/"_static")


def main():
    if lost := lost_links(): sys.exit("book: links that lead nowhere:\n" + "\n".join(lost))
    if "--links" in sys.argv[1:]: return 0
    with tempfile.TemporaryDirectory(prefix="lf2-book-") as tmp:
        stage, made = Path(tmp)/"pages", Path(tmp)/"html"
        stage.mkdir()
        lay_out(stage)
        status = subprocess.run([sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-j", "auto", "-c",
                                 ROOT/"book", stage, made]).returncode
        if status: return status
        for extra in (".doctrees", ".buildinfo"):
            shutil.rmtree(made/extra, ignore_errors=True)
        if OUT.exists(): shutil.rmtree(OUT)
        shutil.move(made, OUT)
    size = sum(p.stat().st_size for p in OUT.rglob("*") if p.is_file())/1e6
    print(f"book      _book/index.html ({len(list(OUT.rglob('*.html')))} pages, {size:.0f} MB)")
    return 0


if __name__ == "__main__": sys.exit(main())
