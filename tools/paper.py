"""Everything that the tables and figures need, then the tables and figures: `make paper`.

    make paper                                       # the embedded benchmark, both directions, seed 0, preset demo
    make paper dry=1                                 # only list which runs there are and which are missing
    make paper runs=0                                # make no run: draw what there is
    make paper seeds=0,1,2 M=700 jobs=4              # three seeds, one M for LF², four at a time: i on GPU i mod n
    make paper pair=real data_root=/data             # Market-1501 and DukeMTMC-reID, preset full
    make paper preset=study M=700 only=systems results_dir=results/systems   # every system of Table I, small
    make paper profile=released M=300,400,500,700,900 seeds=0,1,2 only=lf2,lf2-nofm,baseline,baseline-3x   # Table II
    make paper source=msmt17 target=market1501 source_root=/data target_root=/data preset=full both=0 # one direction

Without profile=… the embedded benchmark is shown under text-only, the profile of the committed records, and any other
pair under paper, as make adapt has it. A run counts as made when a record of its parameters lies in results/, with or
without its folder in runs/. only=… names the methods that are run; tables have a row for the others all the same. Any
other parameter of nbs/run_adapt.ipynb goes to every run (weights=FILE, …). Figures of another pair or preset, and
tables and figures of runs with further parameters, go to folders of their own in results/tables/ and figures/. Stopped,
the same command goes on where it stopped.
"""
import json
import os
import subprocess
import sys
from pathlib import Path

from lf2.commands import asked_of, notebook_parameters, output_name, runs_of, shown_path, switched

ROOT = Path(__file__).resolve().parent.parent


def warn_of_foreign(found, given, way_out=""):
    """RunError on the records that today's code did not make, before any run is made; a remark when none will be."""
    from lf2.config import RunError
    from lf2.jobs import foreign

    sentence = foreign(found, way_out)
    if sentence and not switched(given, "dry") and switched(given, "runs", True): raise RunError(sentence)
    if sentence: print(sentence, file=sys.stderr)


def commands(missing, fixed, roots, results):
    """(title, command) of each missing run: tools/papermill_run.py run_adapt …"""
    for _, params in missing:
        folders = dict(source_root=roots[params["source"]], target_root=roots[params["target"]],
                       results_dir=shown_path(results))
        given = fixed | params | folders
        words = {k: str(v) for k, v in given.items() if v is not None}
        command = [sys.executable, "tools/papermill_run.py", "run_adapt", *(f"{k}={v}" for k, v in words.items())]
        yield Path(output_name("run_adapt", words)).stem, command


def draw(source, target, fixed, roots, given, results):
    """Executes tab_* and fig_* by papermill, each with the parameters it has; titles that failed."""
    from lf2.jobs import PAIRS, beyond_default
    from lf2.tables import numbers

    also = beyond_default(fixed)
    apart = Path(output_name("with", {k: str(v) for k, v in also.items()})).stem if also else ""
    # those that README shows
    ours = (source, target) == PAIRS["syn"] and (fixed["preset"], fixed["data_seed"]) == ("demo", 0)
    figures = ROOT/"figures"/("" if ours
        else f"{source}-{target}-{fixed['preset']}") if results == ROOT/"results" else results/"figures"
    folders = dict(results_dir=results, out_dir=results/"tables"/apart, figures_dir=figures/apart)
    known = fixed | dict(source=source, target=target) | {k: shown_path(v) for k, v in folders.items()}
    if also: known["also"] = json.dumps(also)
    seeds, Ms = numbers(given.get("seeds")) or [0], numbers(given.get("M")) or [700]
    lists = {k: given[k] for k in ("M", "seeds") if k in given}                       # the tables' affair
    M, one = dict(M=700 if 700 in Ms else Ms[0]), dict(seed=seeds[0]) | ({"target_root": roots[target]}
        if roots[target] else {})
    failed = []
    for notebook in sorted([*(ROOT/"nbs"/"paper").glob("tab_*.ipynb"), *(ROOT/"nbs"/"paper").glob("fig_*.ipynb")]):
        names = set(notebook_parameters(notebook))
        # one run of each method
        own = known | (lists if notebook.stem.startswith("tab_") else M) | (one if "target_root" in names else {})
        argv = [sys.executable, "-m", "papermill", shown_path(notebook), shown_path(results/notebook.name),
                "--no-progress-bar"]
        for k in sorted(names & own.keys()):
            argv += ["-r" if k.endswith("_dir") or k == "also" else "-p", k, str(own[k])]
        env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES")}
        done = subprocess.run([str(a) for a in argv], cwd=ROOT, env=env, capture_output=True, text=True)
        last = done.stderr.strip().splitlines()[-1:] if done.returncode else []
        print(f"{'FAILED' if done.returncode else 'drawn':9} {notebook.stem}", *last, flush=True)
        if done.returncode: failed.append(notebook.stem)
    print(f"tables    {shown_path(folders['out_dir'])}\nfigures   {shown_path(folders['figures_dir'])}")
    return failed


def main(given):
    from lf2.jobs import in_rounds, jobs_of, paper_plan, sort_out, tell

    results = (ROOT/(given.get("results_dir") or "results")).resolve()
    jobs = jobs_of(given)
    source, target, fixed, roots, runs = paper_plan(given)
    found = sort_out(runs, fixed, results)
    tell(found)
    missing = [(name, params) for name, params, record in found if record is None]
    if missing: warn_of_foreign(found, given, ", or draw what there is with runs=0")
    if switched(given, "dry"): return 0
    failed = []
    if switched(given, "runs", True) and missing:
        # these make the source networks that all others begin with
        first = [m for m in missing if m[1]["method"] == "direct"]
        rounds = [list(commands(some, fixed, roots, results))
                  for some in (first, [m for m in missing if m not in first])]
        failed = in_rounds(rounds, jobs, runs_of(results)/"paper")
    results.mkdir(parents=True, exist_ok=True)
    failed += draw(source, target, fixed, roots, given, results)
    if failed: print(f"failed    {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    given = asked_of("paper")
    from lf2.jobs import ended

    sys.exit(ended(lambda: main(given)))
