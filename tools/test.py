"""Everything that `make test` runs: one line a check, at the end `N passed, N failed`. Exit status 1 after a failure,
or when nothing ran.

    python tools/test.py             # all of it
    python tools/test.py 06 ruff     # the checks whose name contains one of these
    python tools/test.py --soak      # `make soak`: slow cells too, and comparisons under other arithmetic

Notebooks are forks of one Python that has imported torch and lf2 (warm.py). Limits of time only end a hang.
"""
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import nbformat
from warm import Warm

ROOT = Path(__file__).resolve().parent.parent
NBS = sorted((ROOT/"nbs").rglob("*.ipynb"))
PAPERMILL = re.compile(r"(run|tab|fig)_|bench")  # notebooks that papermill runs
SLOW, LIMIT = 90, 1800  # seconds a notebook should take on two cores, and after which it hangs
SOAK = 7200  # the same with its slow cells
WARM = ("lf2.run", "matplotlib.pyplot", "nbdev.test", "execnb.shell", "sklearn.cluster", "faiss", "psutil")
MEGABYTES = 25
LOCAL_PATH = re.compile(r"(?<![\w.~-])/(?:work|home|root|tmp|Users)/\S*")
TEST_NB = """
import sys
from pathlib import Path
from nbdev.config import get_config
from nbdev.test import test_nb
fn = Path(sys.argv[1])
if sys.argv[3:]: # what precision="auto" finds
    import torch
    has_bf16 = sys.argv[3] == "bf16" # now: a cell may have arguments of its own
    torch.cpu._is_avx512_bf16_supported = torch.cpu._is_amx_tile_supported = lambda: has_bf16
cfg = get_config(path=fn.parent)
sys.exit(not test_nb(fn, skip_flags=cfg.tst_flags.split()*(sys.argv[2] == "quick"), basepath=cfg.config_path)[0])
"""


class Failure(Exception):
    """A check that did not hold; the message is shown below its line."""


def must(condition, message):
    if not condition: raise Failure(message)


def tail(text, n=30):
    """The last `n` lines, without colours and blank ends; all but the last cut at 160 columns."""
    *lines, last = re.sub(r"\x1b\[[0-9;]*m", "", text).rstrip().split("\n")[-n:]
    return "\n".join([*(line[:160] for line in lines), last])


def ends(text, n=16):
    """The first and last `n` lines."""
    lines = tail(text, 10**6).split("\n")
    return "\n".join(lines if len(lines) <= 2*n else [*lines[:n], f"... ({len(lines) - 2*n} lines)", *lines[-n:]])


running, servers, lock = set(), {}, threading.Lock()


def run(*argv, cwd=ROOT, limit=LIMIT, stdin=None, **env):
    """Runs a command with one computing thread; returns (status, stdout, stderr), or fails when it takes longer than
    `limit` seconds."""
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS",
        "MAKELEVEL")} | dict(OMP_NUM_THREADS="1") | env
    process = subprocess.Popen([str(a) for a in argv], cwd=cwd, env=env, text=True, errors="replace",
                               start_new_session=True,
                               stdin=subprocess.PIPE if stdin else subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    with lock: running.add(process)
    try:
        out, err = process.communicate(stdin, timeout=limit)
        return process.returncode, out, err
    except subprocess.TimeoutExpired:
        stop(process)
        out, err = process.communicate()
        raise Failure(f"stopped after {limit} s\n{tail(out + err, 10)}") from None
    finally:
        with lock: running.discard(process)


def stop(process):
    """Ends a command and what it started."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError): os.killpg(process.pid, signal.SIGKILL)


def warm_python(**env):
    """The Python that notebooks are forked from, one for every setting of `env`."""
    with lock:
        key = json.dumps(env, default=str)
        if key not in servers: servers[key] = Warm(WARM, **env)
        return servers[key]


def forked(*argv, limit=LIMIT, server=None, **env):
    """As `python`, from a Python that has imported what takes long."""
    process = (server or warm_python()).start(*argv, cwd=ROOT, **env)
    with lock: running.add(process)
    try:
        out, err = process.communicate(timeout=limit)
        return process.returncode, out, err
    except subprocess.TimeoutExpired:
        stop(process)
        raise Failure(f"stopped after {limit} s\n{tail(''.join(process.communicate()), 10)}") from None
    finally:
        with lock: running.discard(process)


def python(*args, **kw): return run(sys.executable, *args, **kw)


def tree():
    """The repository's files: tracked, and untracked but not ignored."""
    status, out = None, ""
    with contextlib.suppress(FileNotFoundError):
        status, out, _ = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if status == 0: return sorted({p for p in out.split("\0") if p and (ROOT/p).is_file()})
    # a copy without git
    ignored = {".git", ".venv", "runs", "cache", "__pycache__", ".ipynb_checkpoints", ".ruff_cache", "lf2.egg-info"}
    return sorted(str(p.relative_to(ROOT)) for p in ROOT.rglob("*") if p.is_file()
                  and not ignored & set(p.relative_to(ROOT).parts))


def copy_tree(to):
    for path in tree():
        (to/path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT/path, to/path)


def cells(notebook): return json.loads(notebook.read_text(encoding="utf-8"))["cells"]


def tagged(notebook): return sum("parameters" in c["metadata"].get("tags", []) for c in cells(notebook))


# The checks. Each takes a folder of its own, returns a remark or nothing, and raises Failure.

def notebook_check(notebook, how="quick", limit=LIMIT, precision=(), **env):
    def check(tmp):
        server = warm_python(**env)
        lent = server.lend(tmp) if "import Warm" in notebook.read_text(encoding="utf-8") else {}
        status, out, err = forked("-c", TEST_NB, notebook, how, *precision, limit=limit, server=server,
                                  MPLCONFIGDIR=tmp, TMPDIR=tmp, **lent)
        must(status == 0, ends(err or out))
    return check


def papermill_run(tmp):
    """A real run: the values arrive, one with a blank too, and the record is written."""
    results = tmp/"the results"
    given = dict(preset="tiny", M=48, seed=5, results_dir=results, cache_dir=tmp/"cache")
    status, out, err = papermill(tmp/"out.ipynb", **given)
    must(status == 0, tail(err or out))
    records = [json.loads(p.read_text(encoding="utf-8")) for p in sorted(results.glob("*.json"))]
    must(len(records) == 1, f"{len(records)} records in results_dir instead of 1.")
    arrived = {k: records[0]["parameters"].get(k) for k in ("preset", "M", "seed")}
    must(arrived == dict(preset="tiny", M=48, seed=5), "preset=tiny, M=48, seed=5 were given, the record has "
                                                       f"{arrived}.")
    must((tmp/"out.ipynb").is_file(), "papermill wrote no notebook.")


def papermill_wrong(tmp):
    """An unknown parameter: exit status 1, and the last line says so."""
    given = dict(preset="smoke", clusters=48, results_dir=tmp, cache_dir=tmp)
    status, _, err = papermill(tmp/"out.ipynb", **given)
    last = tail(err, 1)
    must(status == 1, f"exit status {status} instead of 1.\n{tail(err, 8)}")
    must(re.fullmatch(r"\w+: .*\bclusters\b.*\.", last), "the last line is not a sentence about the parameter "
                                                         f"'clusters': {last}")


def bad_image(tmp):
    """A folder with an image that is none: exit status 1, the last line names it, and there is no record."""
    (tmp/"crops").mkdir()
    for i in range(40): (tmp/"crops"/f"{i//2:04d}_c{i%2+1}.jpg").write_bytes(b"not an image")
    given = dict(preset="tiny", target="folder", target_root=tmp/"crops", results_dir=tmp/"results",
                 cache_dir=tmp/"cache")
    (tmp/"config.json").write_text(json.dumps(given, default=str))
    status, _, err = forked("-m", "lf2.run", tmp/"config.json")
    last = tail(err, 1)
    must(status == 1, f"exit status {status} instead of 1.\n{tail(err, 8)}")
    expected = r"BadImages: 40 unreadable.*0000_c1.jpg \(not an image in JPEG.*\).*on_bad_image=skip\."
    must(re.fullmatch(expected, last), f"the last line is not a sentence about the images: {last}")
    must(not list((tmp/"results").glob("*.json")), "there is a record of a run that failed.")


def papermill(out, **given):
    return python("-m", "papermill", "nbs/run_adapt.ipynb", out, "--no-progress-bar",
                  *(a for k, v in given.items() for a in ("-p", k, v)))


def make_parameters(tmp):
    """What make hands on is what was typed: blanks, quotes, backslashes, dollars."""
    given = {"M": "900", "pattern": r"""^(?P<pid>\d+) "c"'(\d)'$(M) $$""", "target_root": "/a folder/b -- c",
             "weights": "`touch a`;$(touch b)&&>c"}
    code = "import json, os, sys; sys.path.insert(0, 'tools'); import papermill_run as p; " \
           "print(json.dumps(p.make_parameters(os.environ['MAKEFLAGS'])))"
    (tmp/"show.py").write_text(code)
    recipe = f"show:\n\t@'{sys.executable}' '{tmp}/show.py'\n"
    status, out, err = run("make", "-s", "-f", "-", "show", *(f"{k}={v}" for k, v in given.items()), stdin=recipe)
    must(status == 0, tail(err))
    must(json.loads(out) == given, f"given {given}\narrived {json.loads(out)}")
    must(not [n for n in "abc" if (ROOT/n).exists()], "a value was run as a command.")


def ruff(tmp):
    status, out, err = python("-m", "ruff", "check", "--no-cache", "--output-format", "concise", "nbs", "lf2", "tools")
    must(status == 0, tail(out + err, 20))


def export_check(tmp):
    """nbdev_export makes lf2/ from nothing but the notebooks, byte for byte."""
    copy_tree(tmp)
    shutil.rmtree(tmp/"lf2")
    (tmp/"lf2").mkdir()
    compare(tmp, "lf2", "nbdev.doclinks", "nbdev_export", "run nbdev_export, or nbdev_update after an edit in lf2/")
    changed = [p for p in ("pyproject.toml", "settings.ini") if (ROOT/p).read_bytes() != (tmp/p).read_bytes()]
    must(not changed, f"nbdev_export changes {', '.join(changed)}.")


def clean_check(tmp):
    """nbdev_clean changes no byte: what is committed is clean, and its outputs and tags survive cleaning."""
    copy_tree(tmp)
    compare(tmp, "nbs", "nbdev.clean", "nbdev_clean", "run nbdev_clean")


def compare(tmp, folder, module, command, remedy):
    status, out, err = python("-c", f"from {module} import {command}; {command}()", cwd=tmp,
                              XDG_CONFIG_HOME=str(tmp/".config"))
    must(status == 0 and "Failed" not in err, tail(err or out))
    names = {p for p in tree() if p.startswith(f"{folder}/")} | {str(p.relative_to(tmp))
        for p in (tmp/folder).rglob("*") if p.is_file()}
    changed = [p for p in sorted(names) if not ((ROOT/p).is_file() and (tmp/p).is_file()
                                                and (ROOT/p).read_bytes() == (tmp/p).read_bytes())]
    must(not changed, f"{', '.join(changed)} would change: {remedy}.")


def readme_check(tmp):
    status, out, err = python("tools/readme.py", tmp/"README.md")
    must(status == 0, tail(err or out))
    made = (tmp/"README.md").read_text(encoding="utf-8")
    must(made == (ROOT/"README.md").read_text(encoding="utf-8"), "README.md is not what nbs/index.ipynb makes: run "
                                                                 "python tools/readme.py.")
    links = re.findall(r"""(?:\]\(|(?:src|href)=["'])([^)\s"'#]+)""",
                       re.sub(r"^```.*?^```", "", made, flags=re.M | re.S))
    lost = [t for t in links if not re.match(r"[a-z][a-z0-9+.-]*:", t) and not (ROOT/t).exists()]
    must(not lost, f"README.md points at {', '.join(lost)}, which do not exist.")


def links_check(tmp):
    """Every link of every notebook and page of the book leads to a file, and to a heading where it names one."""
    status, out, err = python("book/build.py", "--links")
    must(status == 0, tail(out + err))


def parameters_check(tmp):
    """Each papermill notebook has exactly one cell tagged parameters, no other notebook has one."""
    wrong = {p.name: tagged(p) for p in NBS if tagged(p) != bool(PAPERMILL.match(p.name))}
    must(not wrong, f"cells tagged parameters (one in run_*, tab_*, fig_*, bench*; none elsewhere): {wrong}")
    must(any(PAPERMILL.match(p.name) for p in NBS), "no papermill notebook in nbs/.")


def outputs_check(tmp):
    """Committed notebooks are valid, were executed, ended well and tell nothing about the machine they ran on."""
    wrong = []
    results = [ROOT/p for p in tree() if p.startswith("results/") and p.endswith(".ipynb") and tracked(p)]
    for path in NBS + results:
        nb = nbformat.read(path, as_version=4)
        nbformat.validate(nb)
        code = [c for c in nb.cells if c.cell_type == "code" and c.source.strip()]
        outputs = [o for c in code for o in c.outputs]
        if code and not outputs and not path.name.startswith("run_"):
            wrong.append(f"{path.name} has no outputs: execute it")
        wrong += [f"{path.name} holds an error: {o.ename}" for o in outputs if o.output_type == "error"]
        shown = [t for o in outputs for t in [o.get("text", ""),
                                              *(v for k, v in o.get("data", {}).items() if k.startswith("text/"))]]
        paths = {m for t in shown for m in LOCAL_PATH.findall(re.sub(r"data:[\w/+;-]+,[A-Za-z0-9+/=\s]*", "", t))}
        if paths: wrong.append(f"{path.name} shows a path of the machine: {sorted(paths)[0][:80]}")
    must(not wrong, "\n".join(wrong))


def tracked(path): return run("git", "ls-files", "--error-unmatch", path)[0] == 0


def size_check(tmp):
    size = sum((ROOT/p).stat().st_size for p in tree())/1e6
    must(size < MEGABYTES, f"the repository's files take {size:.1f} MB: keep them under {MEGABYTES} MB.")
    return f"{size:.1f} MB"


def all_checks():
    """name → check, long ones first."""
    first = sorted(NBS, key=lambda p: (*(not p.name.startswith(w) for w in ("run_", "check_", "bench")), p.name))
    notebooks = {f"notebook {p.name}": notebook_check(p) for p in first}
    return {"papermill: a run": papermill_run, **notebooks, "papermill: an unknown parameter": papermill_wrong,
            "a run: a bad image": bad_image,
            "make: parameters arrive as typed": make_parameters, "ruff": ruff,
            "export changes no byte": export_check, "cleaning changes no byte": clean_check,
            "README.md changes no byte": readme_check,
            "links": links_check,
            "one parameters cell": parameters_check, "committed outputs": outputs_check, "repository size": size_check}


NUMBERS = re.compile(r"test_close|allclose|assert_close")
ALSO = ("check_parity", "check_processes", "check_processes_runs", "check_determinism", "check_leak")
ARITHMETIC = {  # name → environment, and what precision="auto" finds
    "plain": (dict(ATEN_CPU_CAPABILITY="default", ONEDNN_MAX_CPU_ISA="AVX2", MKL_CBWR="COMPATIBLE"), "fp32"),
    "AVX2": (dict(ATEN_CPU_CAPABILITY="avx2", ONEDNN_MAX_CPU_ISA="AVX2", MKL_ENABLE_INSTRUCTIONS="AVX2"), "bf16"),
    "AVX-512, two threads": (dict(ONEDNN_MAX_CPU_ISA="AVX512_CORE", OMP_NUM_THREADS=2, MKL_NUM_THREADS=2,
                                  OMP_WAIT_POLICY="PASSIVE"), "fp32"),
    "bf16": ({}, "bf16")}


def numeric():
    """Notebooks that compare numbers."""
    def code(p): return "".join("".join(c["source"]) for c in cells(p) if c["cell_type"] == "code")
    return [p for p in NBS if p.stem in ALSO or NUMBERS.search(code(p))]


def other_pythons():
    """Of Python 3.12 and 3.13 those that find what the notebooks import."""
    def works(name):
        with contextlib.suppress(FileNotFoundError):
            return run(name, "-c", "import torch, torchvision, faiss, nbdev", limit=120)[0] == 0
    return [name for name in ("python3.12", "python3.13") if works(name)]


def soak_checks():
    slow = [p for p in NBS if any("#| slow" in "".join(c["source"]) for c in cells(p))]
    checks = {f"notebook {p.name}, slow cells too": notebook_check(p, "soak", SOAK) for p in slow}
    everybody = [p for p in NBS if "LF2_SOAK" in p.read_text(encoding="utf-8")]
    checks |= {f"notebook {p.name}, all methods": notebook_check(p, "soak", SOAK, LF2_SOAK=1) for p in everybody}
    for name, (env, auto) in ARITHMETIC.items():
        checks |= {f"{p.name}, {name}": notebook_check(p, precision=(auto,), **env) for p in numeric()}
    for exe in other_pythons():
        checks |= {f"{p.name}, {exe}": notebook_check(p, executable=exe, PYTHONPATH=ROOT) for p in numeric()}
    return checks


def timed(check):
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lf2-test-", ignore_cleanup_errors=True) as tmp:
        try: verdict, remark = "ok", check(Path(tmp)) or ""
        except Failure as e: verdict, remark = "FAIL", str(e)
        except Exception as e: verdict, remark = "FAIL", f"{type(e).__name__}: {e}"
    return verdict, remark, time.monotonic() - start


def main():
    for s in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(s) != signal.SIG_IGN: signal.signal(s, lambda number, _: sys.exit(128 + number))
    soak, wanted = "--soak" in sys.argv[1:], [w for w in sys.argv[1:] if w != "--soak"]
    checks = soak_checks() if soak else all_checks()
    checks = {name: check for name, check in checks.items() if not wanted or any(w in name for w in wanted)}
    passed = failed = 0
    start = time.monotonic()
    with ThreadPoolExecutor(max(1, min(4, len(os.sched_getaffinity(0))))) as pool:
        futures = {pool.submit(timed, check): name for name, check in checks.items()}
        try:
            for future in as_completed(futures):
                name, (verdict, remark, seconds) = futures[future], future.result()
                passed, failed = passed + (verdict == "ok"), failed + (verdict != "ok")
                if verdict == "ok" and name.startswith("notebook") and seconds > SLOW and not soak:
                    remark = f"slow: over {SLOW} s"
                print(f"{verdict:4} {seconds:6.1f} s  {name}" + (f"  ({remark})" if remark and verdict == "ok" else ""))
                if verdict != "ok": print("\n".join(f"     | {line}" for line in remark.split("\n")))
                sys.stdout.flush()
        except BaseException:  # Ctrl-C and the like: end what is running before leaving
            pool.shutdown(wait=False, cancel_futures=True)
            with lock: rest = list(running)
            for process in rest: stop(process)
            raise
        finally:
            for server in servers.values(): server.close()
    print(f"all in {time.monotonic() - start:.0f} s")
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed or not passed else 0


if __name__ == "__main__": sys.exit(main())
