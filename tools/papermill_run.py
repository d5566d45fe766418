"""Runs nbs/NAME.ipynb through papermill; every name=value on make's command line, or to this script, is a parameter.

    make adapt M=900 pattern='two words'            # by way of the Makefile
    make adapt help=1 method=ssg                    # lists the parameters
    python tools/papermill_run.py run_adapt M=900   # by itself
    python tools/papermill_run.py --refuse adapt    # says in a second what is wrong with the parameters, runs nothing
"""
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from lf2.commands import (help_text, make_parameters, notebook_named, output_name, parameters, refuse, runs_of,
                          shown_path, wants_help)
from lf2.config import RunError

ROOT = Path(__file__).resolve().parent.parent
GOALS = {"adapt": "run_adapt", "pretrain": "run_pretrain", "evaluate": "run_eval", "search": "run_search"}
# papermill with a kernel that has minutes, not the usual five seconds, to save its state when it is asked to end, and
# that keeps to itself how it is connected and that matplotlib looks for fonts. What one sentence says needs no
# traceback.
PATIENT = """
import sys
import click
from jupyter_client.manager import KernelManager
from jupyter_client.provisioning import LocalProvisioner
from papermill.__main__ import papermill
from papermill.exceptions import PapermillExecutionError
command = KernelManager.format_kernel_cmd
hush = "--IPKernelApp.exec_lines=import logging; logging.getLogger('matplotlib').setLevel('ERROR')"
def quiet(self, extra_arguments=None): return command(self, [*(extra_arguments or []), "--log-level=CRITICAL", hush])
KernelManager.format_kernel_cmd = quiet
LocalProvisioner.get_shutdown_wait_time = lambda self, recommended=5.: 300.
try: papermill(standalone_mode=False)
except click.ClickException as e: e.show(); sys.exit(e.exit_code)
except (click.Abort, KeyboardInterrupt): sys.exit(130)
except PapermillExecutionError as e: sys.exit(str(e) if len(e.traceback) > 1 else f"{e.ename}: {e.evalue}")
"""


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
    """Prints the headline metrics of a record, or why there are none, and where it and its report are."""
    with contextlib.suppress(KeyError, TypeError):
        final = record["final"]
        if final["headline"] is None:
            print("result    " + next((n for n in record["notes"] if n.startswith("nothing was evaluated")),
                                      "nothing was evaluated"))
        else:
            metrics, which = final[final["headline"]], f"epoch {final['epoch']}, {final['headline']} feature"
            print(f"result    mAP {metrics['mAP']:.1%}, rank-1 {metrics['rank1']:.1%} ({which})")
    print(f"record    {shown_path(record['path'])}")
    for what, pattern in (("report", "report*.html"), ("teacher", "teacher.safetensors")):
        for path in sorted((runs_of(results)/record["run_id"]).glob(pattern)): print(f"{what:9} {shown_path(path)}")


def printed(notebook):
    """What the cells of an executed notebook printed, bars aside."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return "".join("".join(o["text"]) for c in cells for o in c.get("outputs", [])
                   if o.get("name") == "stdout").rstrip()


def in_a_sentence(notebook):
    """Whether an executed notebook ended with an error of one sentence, which was printed: nothing is left to read."""
    if not notebook.exists(): return False
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    errors = [o for c in cells for o in c.get("outputs", []) if o.get("output_type") == "error"]
    return bool(errors) and all(len(o["traceback"]) <= 1 for o in errors)


def warned(notebook, since):
    """The warnings of a notebook that was written after `since`, each once."""
    if not notebook.exists() or notebook.stat().st_mtime < since: return []
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    said = "".join("".join(o["text"]) for c in cells for o in c.get("outputs", []) if o.get("name") == "stderr")
    return list(dict.fromkeys(re.findall(r"[A-Z][A-Za-z]*Warning: [^\r\n]+", said)))


def papermill(argv, **kw):
    """Exit status. Asked to end, we interrupt papermill, which interrupts its kernel, and there the run is saved."""
    asked, process = [], None

    def interrupt(number, frame):
        # make and a closing terminal often send one wish twice
        if asked and time.monotonic() - asked[-1][1] < 1: return
        asked.append((number, time.monotonic()))
        if process: process.send_signal(signal.SIGINT)

    heard = [s for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(s) != signal.SIG_IGN]
    # papermill listens to SIGINT even where we, in the background, must not
    for s in {signal.SIGINT, *heard}: signal.signal(s, interrupt)
    # Ctrl-C reaches it once, through us
    process = subprocess.Popen([sys.executable, "-c", PATIENT, *argv], process_group=0, **kw)
    if signal.SIGINT not in heard: signal.signal(signal.SIGINT, signal.SIG_IGN)
    if asked: process.send_signal(signal.SIGINT)
    status = process.wait()
    if asked and status: print("stopped: the same command goes on from here", file=sys.stderr)
    return 128 + asked[0][0] if asked and status else status


def checked(name, words):
    """The parameters, and whether help is asked for; a RunError about the first that is wrong, as far as that can be
    told in a second."""
    asked = {"-h", "--help"} & {*words}
    given = parameters(w for w in words if w not in asked) | make_parameters(os.environ.get("MAKEFLAGS", ""))
    helps = wants_help(given) or bool(asked)
    if name == "run_adapt" and not given.keys() & {"M", "preset", "method"}: given = {"M": "700"} | given
    if not name.startswith(("tab_", "fig_")) and not helps: refuse(name, given)
    return given, helps


def main():
    name, *words = sys.argv[1:] or ["--help"]
    if name == "--help": raise RunError("name a notebook of nbs/, then its parameters: run_adapt M=900")
    if name == "--refuse":
        for goal in words: checked(GOALS.get(goal, goal), ())
        return 0
    given, helps = checked(name, words)
    if helps:
        print(help_text(name=name, **{k: given[k] for k in ("method", "preset", "profile") if k in given}))
        return 0
    results = (ROOT/(given.get("results_dir") or "results")).resolve()
    try: results.mkdir(parents=True, exist_ok=True)
    except OSError as e: raise RunError(f"{results} cannot be made ({e.strerror}): choose another results_dir.") from e
    notebook = results/output_name(name, given)
    # The paths that papermill notes in the notebook stay relative to the root.
    argv = [shown_path(notebook_named(name)), shown_path(notebook), "--no-progress-bar", "--log-level", "ERROR"]
    for key, value in given.items(): argv += ["-p", key, value]
    env = {k: v for k, v in os.environ.items() if k not in given and k not in ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES")}
    if sys.stderr.isatty():  # a live bar, as wide as the terminal, which the kernel cannot see
        argv += ["--stderr-file", "/dev/stderr"]
        env["COLUMNS"] = str(os.get_terminal_size(sys.stderr.fileno()).columns - 1)
    began = time.time()
    status = papermill(argv, cwd=ROOT, env=env)
    if not sys.stderr.isatty():
        for line in warned(notebook, began): print(line, file=sys.stderr)
    else: print(file=sys.stderr)                               # ends the line of the last bar
    if status == 1 and in_a_sentence(notebook): notebook.unlink()
    if status: return status
    for record in records_of(notebook, results): tell(record, results)
    if name in ("bench", "run_eval", "run_search"): print(printed(notebook))
    print(f"notebook  {shown_path(notebook)}")
    return 0


if __name__ == "__main__":
    try: sys.exit(main())
    except RunError as e: sys.exit(f"{type(e).__name__}: {e}")
