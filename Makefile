# The commands of the compendium. `make` alone lists them.
# Parameters of the run notebooks are given as name=value: make adapt M=900 seed=3 pattern='a b'

PAPERMILL = .venv/bin/python tools/papermill_run.py
.DEFAULT_GOAL := help
# A wrong parameter is told before anything else happens. Then `q`, make's question mode, ends this silently with exit status 1.
quoted = '$(subst ','\'',$(MAKEFLAGS) -- $(MAKEOVERRIDES))'
RUNS = $(filter adapt pretrain evaluate search app export paper study equivalent bench,$(MAKECMDGOALS))
ifneq ($(and $(RUNS),$(wildcard .venv/bin/python)),)
ifneq ($(shell MAKEFLAGS=$(quoted) .venv/bin/python tools/papermill_run.py --refuse $(RUNS) && echo fine),fine)
MAKEFLAGS += q
endif
endif

COMMANDS = help env adapt pretrain evaluate search app export book paper study equivalent bench test soak lab clean
.PHONY: $(COMMANDS)
$(foreach word,$(filter-out $(COMMANDS) .venv-book/.made,$(MAKECMDGOALS)),$(error "$(word)" is neither a command nor name=value: make alone lists the commands))

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "adapt, pretrain and evaluate take any parameter of nbs/core/00_config.ipynb as name=value, for instance"
	@echo "  make adapt M=900 source=syn-market target=syn-duke seed=3"
	@echo "make adapt help=1 lists them, with their values and limits; help=1 method=NAME those of another method."
	@echo "Those of make paper and make study stand at the head of tools/paper.py and tools/study.py; dry=1 shows what would be run, runs=0 draws what there is."

env: ## make or refresh .venv from constraints.txt (Python 3.11 or newer; nothing to do when it is current)
	@sh tools/env.sh

adapt: env ## adapt a source-trained model to an unlabelled target: nbs/run_adapt.ipynb through papermill, M=700
	@$(PAPERMILL) run_adapt

pretrain: env ## stage 1 alone, source pre-training: nbs/run_pretrain.ipynb
	@$(PAPERMILL) run_pretrain

evaluate: env ## a checkpoint on a target, re-ranking optional: nbs/run_eval.ipynb
	@$(PAPERMILL) run_eval

search: env ## one's own crops: index, ranked lists, people: model=runs/RUN/teacher.safetensors gallery=FOLDER query=FILE, nbs/run_search.ipynb
	@$(PAPERMILL) run_search

app: env ## a page on 127.0.0.1 on which one picks a crop and sees what direct transfer, baseline and LF² answer: port=8765 k=10; or model=…[,…] gallery=… pattern=… out=… for crops of one's own
	@.venv/bin/python tools/app.py

export: env ## an ONNX file for other programs, with its model card, both checked: model=runs/RUN/teacher.safetensors out=FILE.onnx
	@.venv/bin/python tools/export.py

book: .venv-book/.made ## all notebooks as a web site in _book/, from their saved outputs; its packages lie in .venv-book
	@.venv-book/bin/python book/build.py

.venv-book/.made: book/requirements.txt
	@$${PYTHON:-python3} -m venv .venv-book && .venv-book/bin/python -m pip install --quiet --disable-pip-version-check -r book/requirements.txt && touch $@

paper: env ## the tables and figures, and whatever runs they still need: seeds=0,1,2 jobs=N pair=real data_root=… dry=1
	@.venv/bin/python tools/paper.py

study: env ## what each difference between paper and released code is worth: only=fm,lam seeds=0 jobs=N dry=1; or profile=paper; see tools/study.py
	@.venv/bin/python tools/study.py

equivalent: env ## which records outlive a change of the code: OLD=<commit> methods=lf2,ssg, minutes; see nbs/checks/check_equivalence.ipynb
	@.venv/bin/python tools/equivalent.py

bench: env ## every stage timed beside a plain reference and its floor: nbs/paper/bench.ipynb, results/bench.json; ten minutes of a machine of one's own
	@$(PAPERMILL) bench

test: env ## every notebook, one real papermill run, ruff, and the checks of tools/test.py
	@.venv/bin/python tools/test.py

soak: env ## the long checks: dozens of kills in all phases, 200 epochs; and what compares numbers, under four kinds of arithmetic (an hour)
	@.venv/bin/python tools/test.py --soak

lab: env ## JupyterLab in this folder; a notebook is saved in the form in which it is committed
	@.venv/bin/python -m jupyterlab --FileContentsManager.pre_save_hook=lf2.commands.as_committed $$([ "$$(id -u)" != 0 ] || echo --allow-root)

clean: ## remove caches and leftovers; .venv, runs/ and results/ stay
	@rm -rf cache _book .ruff_cache _proc _docs build
	@find . -path ./.venv -prune -o -type d \( -name __pycache__ -o -name .ipynb_checkpoints \) -exec rm -rf {} +
