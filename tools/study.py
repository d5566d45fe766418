"""The runs of the studies in nbs/paper/84_fidelity.ipynb, one factor at a time from a profile: `make study`.

    make study                            # from text-only: both directions, three seeds, M = 700, preset study
    make study profile=paper              # from paper; or profile=released, backwards
    make study dry=1                      # only list which runs there are and which are missing
    make study only=fm seeds=0 jobs=2     # a group: fm, loss, features, batches, teacher, clustering, source, …
    make study only=half,dbscan           # by their keys; the profile itself always comes along
    make study only=text-only             # it alone
    make study profile=paper only=paper-fm_bn,paper-gamma

Records go to results/study/, those of another profile to results/study-PROFILE/, or to results_dir=…; a run that has
left its record is not made again. Stopped, the same command goes on where it stopped. Runs that share a source
checkpoint wait for the first of them to make it. Other parameters go to every run.
"""
import json
import os
import sys

from lf2.commands import make_parameters, parameters, runs_of, typed
from paper import ROOT, jobs_of, warn_of_foreign

DRAW = "draw it   .venv/bin/python -m nbconvert --to notebook --execute --inplace nbs/paper/84a_study.ipynb"
OWN = ("seeds", "only", "jobs", "dry", "results_dir", "profile")


def plan(given):
    """What every run has, and per run its name and its own parameters."""
    from lf2.config import RunError
    from lf2.fidelity import DIRECTIONS, FIXED, SEEDS, SWITCHES, study_of, study_runs
    from lf2.run import configure
    from lf2.tables import SHOWN, numbers

    for wrong in ("seed", "source", "target", "method"):
        if wrong in given:
            raise RunError(f"parameter {wrong!r} is the study's own: choose among its runs with seeds=… and only=….")
    profile, words = given.get("profile", SHOWN), [w for w in given.get("only", "").split(",") if w]
    if profile not in (SHOWN, *SWITCHES):
        raise RunError(f"profile = {profile!r} has no study: choose one of {', '.join([SHOWN, *SWITCHES])}.")
    every = study_of(profile)
    known = [profile, *dict.fromkeys(r["group"] for r in every), *(r["key"] for r in every)]
    for w in words:
        if w not in known: raise RunError(f"only = {w!r} is no part of the study: choose from {', '.join(known)}.")
    rows = [r for r in every if not words or {r["group"], r["key"]} & set(words) - {profile}]
    fixed = FIXED | {k: typed(v) for k, v in given.items() if k not in OWN}
    seeds = numbers(given.get("seeds")) or SEEDS
    places = [dict(source=s, target=t, seed=seed) for seed in seeds for s, t in DIRECTIONS]
    runs = [(key, own | place) for place in places for key, own in study_runs(rows, profile).items()]
    for _, own in runs: configure(fixed | own)  # a wrong parameter is told before hours are spent
    return fixed, runs


def source_of(fixed, own):
    """What decides the source checkpoint of a run: runs with the same share it."""
    from lf2.pretrain import SOURCE_PARAMS
    from lf2.run import configure

    cfg = configure(fixed | own)
    return tuple(getattr(cfg, k) for k in SOURCE_PARAMS) + (getattr(cfg, "K", 2),
        cfg.target if cfg.target_forwards else None)


def in_order(found, fixed):
    """(the first missing run of every source checkpoint that no finished run has made, the other missing runs)."""
    made, first, rest = {source_of(fixed, own) for _, own, record in found if record}, [], []
    for name, own, record in found:
        if record: continue
        source = source_of(fixed, own)
        (rest if source in made else first).append((name, own))
        made.add(source)
    return first, rest


def commands(runs, fixed, results):
    """(title, command) of each run: python -m lf2.run CONFIG.json."""
    folder = runs_of(results)/"configs"
    folder.mkdir(parents=True, exist_ok=True)
    for name, own in runs:
        title = f"{name}-{own['source']}-{own['target']}-{own['seed']}"
        config = folder/f"{title}.json"
        config.write_text(json.dumps(fixed | own | dict(results_dir=str(results))))
        yield title, [sys.executable, "-m", "lf2.run", str(config)]


def main():
    from lf2.jobs import in_rounds, sort_out, tell

    given = parameters(sys.argv[1:]) | make_parameters(os.environ.get("MAKEFLAGS", ""))
    own = given.get("profile", "text-only")
    results = (ROOT/(given.get("results_dir")
                     or ("results/study" if own == "text-only" else f"results/study-{own}"))).resolve()
    jobs, (fixed, runs) = jobs_of(given), plan(given)
    found = sort_out(runs, fixed, results)
    tell(found)
    if any(record is None for *_, record in found): warn_of_foreign(found, given)
    rounds = in_order(found, fixed)
    if given.get("dry", "0") not in ("0", ""): return 0
    failed = [] if not any(rounds) else in_rounds([list(commands(some, fixed, results)) for some in rounds], jobs,
        runs_of(results)/"logs")
    if failed: print(f"failed    {', '.join(failed)}", file=sys.stderr)
    elif results == ROOT/"results"/"study": print(DRAW)
    return 1 if failed else 0


if __name__ == "__main__":
    from lf2.jobs import ended

    sys.exit(ended(main))
