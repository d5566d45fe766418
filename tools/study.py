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
import sys

from lf2.commands import asked_of, runs_of, switched
from paper import ROOT, warn_of_foreign

DRAW = "draw it   .venv/bin/python -m nbconvert --to notebook --execute --inplace nbs/paper/84a_study.ipynb"


def commands(runs, fixed, results):
    """(title, command) of each run: python -m lf2.run CONFIG.json."""
    folder = runs_of(results)/"configs"
    folder.mkdir(parents=True, exist_ok=True)
    for name, own in runs:
        title = f"{name}-{own['source']}-{own['target']}-{own['seed']}"
        config = folder/f"{title}.json"
        config.write_text(json.dumps(fixed | own | dict(results_dir=str(results))))
        yield title, [sys.executable, "-m", "lf2.run", str(config)]


def main(given):
    from lf2.jobs import first_of_source, in_rounds, jobs_of, sort_out, study_plan, tell

    own = given.get("profile", "text-only")
    results = (ROOT/(given.get("results_dir")
                     or ("results/study" if own == "text-only" else f"results/study-{own}"))).resolve()
    jobs, (fixed, runs) = jobs_of(given), study_plan(given)
    found = sort_out(runs, fixed, results)
    tell(found)
    if any(record is None for *_, record in found): warn_of_foreign(found, given)
    rounds = first_of_source(found, fixed)
    if switched(given, "dry"): return 0
    failed = [] if not any(rounds) else in_rounds([list(commands(some, fixed, results)) for some in rounds], jobs,
        runs_of(results)/"logs")
    if failed: print(f"failed    {', '.join(failed)}", file=sys.stderr)
    elif results == ROOT/"results"/"study": print(DRAW)
    return 1 if failed else 0


if __name__ == "__main__":
    given = asked_of("study")
    from lf2.jobs import ended

    sys.exit(ended(lambda: main(given)))
