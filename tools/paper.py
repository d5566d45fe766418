"""Everything that the tables and figures need, then the tables and figures: `make paper`.

    make paper                                       # the embedded benchmark, both directions, seed 0, preset demo
    make paper dry=1                                 # only list which runs there are and which are missing
    make paper runs=0                                # make no run: draw what there is
    make paper seeds=0,1,2 M=700 jobs=4              # three seeds, LF² with one M, four runs at a time, job i on GPU i mod n
    make paper pair=real data_root=/data             # Market-1501 and DukeMTMC-reID, preset full
    make paper source=msmt17 target=market1501 source_root=/data target_root=/data preset=full

A run counts as made when a record of its parameters lies in results/, with or without its folder in runs/. Any other parameter of
nbs/run_adapt.ipynb goes to every run (weights=FILE, profile=released, …). Figures of another pair or preset, and tables and figures of runs
with further parameters, go to folders of their own in results/tables/ and figures/. Stopped, the same command
goes on where it stopped.
"""
import contextlib
import functools
import json
import os
import queue
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from papermill_run import ROOT, make_parameters, output_name, parameters, shown_path

PAIRS = {"syn": ("syn-duke", "syn-market"), "real": ("dukemtmc-reid", "market1501")}
OWN = ("pair", "data_root", "source", "target", "source_root", "target_root", "preset", "seeds", "M", "jobs", "dry", "runs", "results_dir")


def value(text):
    """A number, true or false where the text is one."""
    with contextlib.suppress(ValueError): return json.loads(text.lower())
    return text


def plan(given):
    """What is wanted: the pair, and per run its name and the parameters of run_adapt."""
    from lf2.config import RunError
    from lf2.run import configure
    from lf2.tables import numbers, paper_rows

    for wrong, right in (("seed", "seeds=0,1,2"), ("method", "M=… for LF², or make adapt for a single run")):
        if wrong in given: raise RunError(f"parameter {wrong!r} is not one of make paper: write {right}.")
    pair, preset = given.get("pair", "syn"), given.get("preset")
    if pair not in PAIRS: raise RunError(f"pair = {pair!r} is unknown: choose one of {', '.join(PAIRS)}, or give source=… target=….")
    source, target = given.get("source", PAIRS[pair][0]), given.get("target", PAIRS[pair][1])
    if source == target: raise RunError(f"source and target are both {source!r}: choose two data sets.")
    if pair == "real" and not any(given.get(k) for k in ("data_root", "source_root", "target_root")):
        raise RunError("pair=real reads Market-1501 and DukeMTMC-reID from a folder of yours: add data_root=….")
    fixed = dict(preset=preset or ("full" if pair == "real" else "demo"), data_seed=0)
    fixed |= {k: value(v) for k, v in given.items() if k not in OWN}
    roots = {name: given.get(f"{side}_root", given.get("data_root")) for name, side in ((source, "source"), (target, "target"))}
    rows, seeds = paper_rows(numbers(given.get("M", "500,700,900"))), numbers(given.get("seeds", "0"))
    runs = [(name, params | dict(source=s, target=t, seed=seed)) for seed in seeds for s, t in ((source, target), (target, source))
            for name, params, _ in rows]
    for _, params in runs: configure(fixed | params)  # a wrong parameter is told before hours are spent
    return source, target, fixed, roots, runs


def sort_out(runs, fixed, results):
    """[(name, parameters, record or None)]: which runs have left their record."""
    from lf2.methods import grown
    from lf2.records import read_records
    from lf2.tables import standard

    records, found = [(grown(r["parameters"]), r) for r in read_records(results)], []
    for name, params in runs:
        mine = [r for own, r in records if all(own.get(k) == v for k, v in params.items()) and standard(r, **fixed | params)]
        found.append((name, params, mine[0] if mine else None))
    return found


def jobs_of(given):
    """How many runs at a time."""
    from lf2.config import RunError

    text = given.get("jobs", "1")
    if not text.isdigit() or int(text) < 1: raise RunError(f"jobs = {text!r} is not a number of runs at a time: give 1 or more.")
    return int(text)


def foreign(found, given, way_out=""):
    """RunError on the records that today's code did not make, before any run is made; a remark when none will be."""
    from lf2.config import RunError, code_hash, rests_on
    from lf2.methods import find_method
    from lf2.records import DECIDING

    old, core, code = [], code_hash(DECIDING), functools.cache(lambda room: code_hash([*DECIDING, *rests_on(room, DECIDING)]))
    for _, params, record in found:
        room = find_method(params["method"]).__module__
        now = dict(core=core, code=code(room))
        asked = ["core"] if not any(r is None and p["method"] == params["method"] for _, p, r in found) else ["core", "code"]
        if record and any(record["provenance"].get(k) != now[k] for k in asked): old.append(record["run_id"])
    if not old: return
    more = "" if len(old) < 4 else f" and {len(old) - 3} more"
    sentence = (f"{', '.join(old[:3])}{more}: made by another state of the code than the missing runs would be, and tables refuse to mix "
                f"the two. Go back to that commit, move these records away, give another results_dir=…{way_out}.")
    if given.get("dry", "0") in ("0", "") and given.get("runs", "1") != "0": raise RunError(sentence)
    print(sentence, file=sys.stderr)


def tell(found):
    """The list of runs, then how many are missing."""
    for name, p, record in found:
        state, run_id = ("present", f"  {record['run_id']}") if record else ("missing", "")
        print(f"{state}  {p['source']} → {p['target']}  seed {p['seed']}  {name}{run_id}")
    print(f"{sum(bool(r) for *_, r in found)} runs present, {sum(not r for *_, r in found)} missing", flush=True)


def gpus():
    """The GPUs this process may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None: return [g for g in visible.split(",") if g.strip()]
    import torch

    return [str(i) for i in range(torch.cuda.device_count())]


class Workers:
    """Runs commands, `jobs` at a time; remembers what is under way so that all of it ends with us."""
    def __init__(self, jobs, logs):
        self.jobs, self.logs, self.under_way, self.stopping = jobs, logs, [], None
        self.places, devices = queue.Queue(), gpus() if jobs > 1 else []
        for i in range(jobs): self.places.put(devices[i % len(devices)] if devices else None)

    def run(self, title, argv):
        """Exit status 0? One job shows its live bar here, several write to a log each."""
        if self.stopping: return False
        gpu = self.places.get()
        env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES")}
        if gpu is not None: env["CUDA_VISIBLE_DEVICES"] = gpu
        elif self.jobs > 1: env.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1)//self.jobs)))
        log = self.logs/f"{title}.log"
        print(f"begins    {title}" + (f" on GPU {gpu}" if gpu is not None else ""), flush=True)
        with open(log, "w", encoding="utf-8") if self.jobs > 1 else contextlib.nullcontext() as out:
            # In a group of its own it hears of a Ctrl-C in the terminal once, from us: a second signal would cost it the epoch.
            process = subprocess.Popen(argv, cwd=ROOT, env=env, stdout=out, stderr=out, process_group=0)
            self.under_way.append(process)
            if self.stopping: process.terminate()
            process.wait()
        self.under_way.remove(process)
        self.places.put(gpu)
        ok = process.returncode == 0
        where = f", see {shown_path(log)}" if self.jobs > 1 else ""
        if not self.stopping: print(f"{'done' if ok else 'FAILED':9} {title}{where}", flush=True)
        return ok

    def all(self, work):
        """Titles that failed. Whenever a signal asks us to end, it asks what is under way, which saves its state, and waits for it."""
        from lf2.checkpoint import Stopped

        with ThreadPoolExecutor(self.jobs) as pool:
            futures, failed = {title: pool.submit(self.run, title, argv) for title, argv in work}, None
            while failed is None:
                try: failed = [title for title, f in futures.items() if not f.result()]
                except Stopped as e:
                    self.stopping = e
                    for process in list(self.under_way): process.terminate()
        if self.stopping: raise self.stopping
        return failed


def in_rounds(rounds, jobs, logs):
    """Makes the runs of each round, a list of (title, command), before those of the next; titles that failed."""
    logs.mkdir(parents=True, exist_ok=True)
    workers, failed = Workers(min(jobs, sum(map(len, rounds))), logs), []
    for some in rounds: failed += workers.all(some)
    return failed


def ended(work):
    """Exit status of work(): 1 after an error, told in a sentence; asked to end by a signal, 128 + its number, once all has ended."""
    from lf2.checkpoint import Stopped, stoppable
    from lf2.config import RunError
    from lf2.records import disk_error

    try:
        with stoppable(): return work()
    except Stopped as e:
        print("stopped: the same command goes on from here", file=sys.stderr)
        return 128 + e.signal
    except OSError as e: wrong = disk_error(e.filename or "a file", e)
    except (RunError, ValueError) as e: wrong = e
    print(f"{type(wrong).__name__}: {wrong}", file=sys.stderr)
    return 1


def commands(missing, fixed, roots, results):
    """(title, command) of each missing run: tools/papermill_run.py run_adapt …"""
    for _, params in missing:
        folders = dict(source_root=roots[params["source"]], target_root=roots[params["target"]], results_dir=shown_path(results))
        given = fixed | params | folders
        words = {k: str(v) for k, v in given.items() if v is not None}
        command = [sys.executable, "tools/papermill_run.py", "run_adapt", *(f"{k}={v}" for k, v in words.items())]
        yield Path(output_name("run_adapt", words)).stem, command


def beyond_default(source, target, fixed):
    """Those of `fixed` that the tables must tell from the default: what can change a result, the machine's choices apart."""
    from lf2.config import result_params
    from lf2.run import configure
    from lf2.tables import UNASKED

    names = {k for m in ("lf2", "ssg") for k in result_params(configure(fixed | dict(source=source, target=target, method=m)))}
    return {k: v for k, v in fixed.items() if k in names and k not in ("preset", "data_seed", *UNASKED)}


def draw(source, target, fixed, roots, given, results):
    """Executes tab_* and fig_* by papermill, each with the parameters it has; titles that failed."""
    from lf2.tables import numbers

    also = beyond_default(source, target, fixed)
    apart = Path(output_name("with", {k: str(v) for k, v in also.items()})).stem if also else ""
    ours = (source, target) == PAIRS["syn"] and (fixed["preset"], fixed["data_seed"]) == ("demo", 0)          # those that README shows
    figures = ROOT/"figures"/("" if ours else f"{source}-{target}-{fixed['preset']}") if results == ROOT/"results" else results/"figures"
    folders = dict(results_dir=results, out_dir=results/"tables"/apart, figures_dir=figures/apart)
    known = fixed | dict(source=source, target=target) | {k: shown_path(v) for k, v in folders.items()}
    if also: known["also"] = json.dumps(also)
    seeds, Ms = numbers(given.get("seeds")) or [0], numbers(given.get("M")) or [700]
    lists = {k: given[k] for k in ("M", "seeds") if k in given}                       # the tables' affair
    M, one = dict(M=700 if 700 in Ms else Ms[0]), dict(seed=seeds[0]) | ({"target_root": roots[target]} if roots[target] else {})
    failed = []
    for notebook in sorted([*(ROOT/"nbs"/"paper").glob("tab_*.ipynb"), *(ROOT/"nbs"/"paper").glob("fig_*.ipynb")]):
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        text = "\n".join("".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", []))
        names = {line.split("=")[0].strip() for line in text.splitlines() if "=" in line}
        own = known | (lists if notebook.stem.startswith("tab_") else M) | (one if "target_root" in names else {})  # one run of each method
        argv = [sys.executable, "-m", "papermill", shown_path(notebook), shown_path(results/notebook.name), "--no-progress-bar"]
        for k in sorted(names & own.keys()): argv += ["-r" if k.endswith("_dir") or k == "also" else "-p", k, str(own[k])]
        env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES")}
        done = subprocess.run([str(a) for a in argv], cwd=ROOT, env=env, capture_output=True, text=True)
        last = done.stderr.strip().splitlines()[-1:] if done.returncode else []
        print(f"{'FAILED' if done.returncode else 'drawn':9} {notebook.stem}", *last, flush=True)
        if done.returncode: failed.append(notebook.stem)
    print(f"tables    {shown_path(folders['out_dir'])}\nfigures   {shown_path(folders['figures_dir'])}")
    return failed


def main():
    given = parameters(sys.argv[1:]) | make_parameters(os.environ.get("MAKEFLAGS", ""))
    given.pop("PYTHON", None)
    results = (ROOT/(given.get("results_dir") or "results")).resolve()
    jobs = jobs_of(given)
    source, target, fixed, roots, runs = plan(given)
    found = sort_out(runs, fixed, results)
    tell(found)
    missing = [(name, params) for name, params, record in found if record is None]
    if missing: foreign(found, given, ", or draw what there is with runs=0")
    if given.get("dry", "0") not in ("0", ""): return 0
    failed = []
    if given.get("runs", "1") != "0" and missing:
        logs = results/"runs"/"paper" if results != ROOT/"results" else ROOT/"runs"/"paper"
        first = [m for m in missing if m[1]["method"] == "direct"]  # these make the source networks that all others begin with
        rounds = [list(commands(some, fixed, roots, results)) for some in (first, [m for m in missing if m not in first])]
        failed = in_rounds(rounds, jobs, logs)
    results.mkdir(parents=True, exist_ok=True)
    failed += draw(source, target, fixed, roots, given, results)
    if failed: print(f"failed    {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__": sys.exit(ended(main))
