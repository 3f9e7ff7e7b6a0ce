# orthodiff: make demo | make test | make studio   (make help lists everything)
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
PIP    := $(PY) -m pip install --quiet --constraint constraints.txt
# Pillow 13 closes critical holes in decoders; gradio declares pillow<13 but works with it, and pip
# has no way to override what a package declares. So Pillow is installed by itself afterwards.
PILLOW := $(PY) -m pip install --quiet --no-deps --requirement overrides.txt
# Files in their own order, the heavy ones first; `make test-random` shuffles and says the seed.
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest -q -p no:randomly
DEMO   := runs/demo
BASE   := assets/pocket
SUBJECT := assets/subjects/robot
CONTROL := assets/pocket-canny
PHOTOS  := $(wildcard assets/subjects/teapot/*.png)

.PHONY: help install demo demo-control test test-slow test-heavy test-random test-gpu check lint audit mutants docs wheel studio clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

$(VENV)/.runtime: pyproject.toml setup.py constraints.txt overrides.txt
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@echo "Installing orthodiff and its pinned dependencies into $(VENV) (about 1.6 GB, once) ..."
	$(PIP) --editable '.[studio]'
	$(PILLOW)
	@touch $@

$(VENV)/.developer: $(VENV)/.runtime
	$(PIP) --editable '.[dev]'
	$(PILLOW)
	@touch $@

install: $(VENV)/.developer ## make .venv with everything a developer needs

demo: $(VENV)/.runtime ## personalise the pocket model on an example subject: runs/demo/grid.png
	$(PY) -m training dreambooth --config configs/pocket/demo.yaml --output_dir $(DEMO) \
		--overwrite_output_dir
	$(PY) -m orthodiff evaluate --pretrained_model_name_or_path $(BASE) --adapter $(DEMO) \
		--subject $(SUBJECT) --output_dir $(DEMO)

demo-control: $(VENV)/.runtime ## steer the pocket model by the edges of photos: runs/demo-control/grid.png
	$(PY) -m orthodiff evaluate-control --pretrained_model_name_or_path $(BASE) \
		--adapter $(CONTROL) $(PHOTOS:%=--condition_from %) \
		--prompt "a photo of a red teapot" --prompt "a photo of a blue teapot on the beach" \
		--prompt "a photo of a green teapot in the snow" --output_dir runs/demo-control

studio: $(VENV)/.runtime ## open the web page on 127.0.0.1:7860
	$(PY) app.py

test: install lint ## install what is needed and run every test but the heavy and slow ones
	$(PYTEST) -n 2 --dist loadfile -m "not slow and not heavy and not gpu"

test-heavy: install ## the tests that start processes or train: about 15 minutes
	$(PYTEST) -n 2 --dist loadfile -m "heavy and not slow and not gpu"

test-random: install ## the tests of `make test` in a random order, whose seed is said at the end
	OMP_NUM_THREADS=1 $(PY) -m pytest -q --randomly-dont-reset-seed -n 2 --dist loadfile

check: install lint ## style, types and the fast half of the tests: under 3 minutes
	$(PYTEST) -n 2 --dist loadfile -m "not slow and not heavy and not gpu"

test-slow: install ## the checks that take minutes each
	$(PY) -m pytest -q -m slow

test-gpu: install ## the checks that need a CUDA device; without one they are skipped
	$(PY) -m pytest -q -m gpu -rs

lint: $(VENV)/.developer ## style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

docs: $(VENV)/.developer ## build the documentation into build/site
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet --site-dir build/site

wheel: $(VENV)/.developer ## build the package into build/dist
	rm -rf build/lib build/bdist.* build/dist
	$(PY) -m pip wheel --quiet --no-deps --wheel-dir build/dist .

audit: $(VENV)/.developer ## look every installed package up in the advisory databases (needs a network)
	$(PIP) '.[audit]'
	$(PILLOW)
	$(PY) -m pip_audit --skip-editable

mutants: install ## MODULE=orthodiff/ops [SAMPLE=60 SEED=1 TESTS=...]: how many wrong lines do the tests notice?
	$(PIP) '.[mutants]'
	$(PILLOW)
	$(PY) -m tests.mutation $(MODULE) $(if $(SAMPLE),--sample $(SAMPLE)) $(if $(SEED),--seed $(SEED)) \
		$(if $(TESTS),--tests $(TESTS))

clean: ## remove what was built, keep runs
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .mypy_cache
