"""Runs nbs/NAME.ipynb through papermill with every name=value given on make's command line (or to this script) as a parameter.

    make adapt M=900 pattern='two words'            # by way of the Makefile
    python tools/papermill_run.py run_adapt M=900   # by itself
"""
import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# papermill with a kernel that has minutes to save its state when it is asked to end, not the usual five seconds
PATIENT = """
from jupyter_client.provisioning import LocalProvisioner
from papermill.__main__ import papermill
LocalProvisioner.get_shutdown_wait_time = lambda self, recommended=5.: 300.
papermill()
"""
ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)\s*:{0,3}=(.*)", re.DOTALL)


def make_parameters(flags):
    """name → value from the MAKEFLAGS that make hands to a recipe: after ` -- `, blanks and backslashes escaped by a backslash, $ doubled.
    The exported variables themselves will not do: make has expanded every $ in them."""
    _, _, given = f" {flags}".partition(" -- ")
    words = re.findall(r"(?:\\.|[^\\ \t\n])+", given)
    return parameters(re.sub(r"\\(.)", r"\1", w).replace("$$", "$") for w in words)


def parameters(words):
    """name → value from words of the form name=value."""
    found = {}
    for word in words:
        match = ASSIGNMENT.fullmatch(word)
        if not match: sys.exit(f"papermill_run: {word!r} is not a parameter: write name=value.")
        found[match[1]] = match[2]
    return found


def output_name(name, given):
    """File name that tells the parameters; folders of results and cache are left out, of other paths the last part stays."""
    parts, order = [], ["source", "target", "method", "M", "seed"]
    for key, value in sorted(given.items(), key=lambda kv: (order.index(kv[0]) if kv[0] in order else len(order), kv[0])):
        if key.endswith("_dir"): continue
        if key == "checkpoint": value = str(Path(value).parent)   # every run's teacher has the same file name
        value = value.rstrip("/").rsplit("/", 1)[-1]
        joint = "" if re.fullmatch(r"[\d.]+(e-?\d+)?", value) else "-"
        parts.append(re.sub(r"[^\w.+-]+", "_", f"{key}{joint}{value}"))
    stem = "-".join([name, *parts])
    if len(stem) > 120: stem = f"{stem[:110]}-{hashlib.sha256(stem.encode()).hexdigest()[:8]}"
    return f"{stem}.ipynb"


def records_of(notebook, results):
    """Records in `results` that the executed notebook names."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    shown = json.dumps([c.get("outputs", []) for c in cells], ensure_ascii=False)
    found = []
    for path in sorted(results.glob("*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # other JSON files
            record = json.loads(path.read_text(encoding="utf-8")) | {"path": path}
            if record["run_id"] in shown: found.append(record)
    return found


def tell(record, results):
    """Prints the headline metrics of a record, and where it and its report are."""
    with contextlib.suppress(KeyError, TypeError):
        final = record["final"]
        metrics = final[final["headline"]]
        print(f"result    mAP {metrics['mAP']:.1%}, rank-1 {metrics['rank1']:.1%} (epoch {final['epoch']}, {final['headline']} feature)")
    print(f"record    {shown_path(record['path'])}")
    runs = ROOT/"runs" if results == ROOT/"results" else results/"runs"
    for what, pattern in (("report", "report*.html"), ("teacher", "teacher.safetensors")):
        for path in sorted((runs/record["run_id"]).glob(pattern)): print(f"{what:9} {shown_path(path)}")


def printed(notebook):
    """What the cells of an executed notebook printed, bars aside."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return "".join("".join(o["text"]) for c in cells for o in c.get("outputs", []) if o.get("name") == "stdout").rstrip()


def shown_path(path):
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def papermill(argv, **kw):
    """Exit status. Asked to end, we interrupt papermill; it interrupts its kernel, and there the run saves its state."""
    asked, process = [], None

    def interrupt(number, frame):
        if asked and time.monotonic() - asked[-1][1] < 1: return  # make and a closing terminal often send one wish twice
        asked.append((number, time.monotonic()))
        if process: process.send_signal(signal.SIGINT)

    heard = [s for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(s) != signal.SIG_IGN]
    for s in {signal.SIGINT, *heard}: signal.signal(s, interrupt)  # papermill listens to SIGINT even where we, in the background, must not
    process = subprocess.Popen([sys.executable, "-c", PATIENT, *argv], process_group=0, **kw)  # Ctrl-C reaches it once, through us
    if signal.SIGINT not in heard: signal.signal(signal.SIGINT, signal.SIG_IGN)
    if asked: process.send_signal(signal.SIGINT)
    status = process.wait()
    if asked and status: print("stopped: the same command goes on from here", file=sys.stderr)
    return 128 + asked[0][0] if asked and status else status


def main():
    if len(sys.argv) < 2: sys.exit("papermill_run: name a notebook of nbs/, then its parameters: run_adapt M=900")
    name, *words = sys.argv[1:]
    given = parameters(words) | make_parameters(os.environ.get("MAKEFLAGS", ""))
    given.pop("PYTHON", None)
    if name == "run_adapt" and not given.keys() & {"M", "preset", "method"}: given = {"M": "700"} | given
    results = (ROOT/(given.get("results_dir") or "results")).resolve()
    try: results.mkdir(parents=True, exist_ok=True)
    except OSError as e: sys.exit(f"papermill_run: {results} cannot be made ({e.strerror}): choose another results_dir.")
    notebook = results/output_name(name, given)
    # The paths that papermill notes in the notebook stay relative to the root.
    argv = [str(shown_path(next((ROOT/"nbs").rglob(f"{name}.ipynb")))), str(shown_path(notebook)), "--no-progress-bar"]
    for key, value in given.items(): argv += ["-p", key, value]
    env = {k: v for k, v in os.environ.items() if k not in given and k not in ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES")}
    if sys.stderr.isatty():  # a live bar, as wide as the terminal, which the kernel cannot see
        argv += ["--stderr-file", "/dev/stderr"]
        env["COLUMNS"] = str(os.get_terminal_size(sys.stderr.fileno()).columns - 1)
    if status := papermill(argv, cwd=ROOT, env=env): return status
    for record in records_of(notebook, results): tell(record, results)
    if name in ("bench", "run_eval"): print(printed(notebook))
    print(f"notebook  {shown_path(notebook)}")
    return 0


if __name__ == "__main__": sys.exit(main())
