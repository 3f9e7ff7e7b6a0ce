# orthodiff: make demo | make test | make studio   (make help lists everything)
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
PIP    := $(PY) -m pip install --quiet --constraint constraints.txt
DEMO   := runs/demo
BASE   := assets/pocket
SUBJECT := assets/subjects/robot
CONTROL := assets/pocket-canny
PHOTOS  := $(wildcard assets/subjects/teapot/*.png)

.PHONY: help install demo demo-control test test-slow lint studio clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

$(VENV)/.runtime: pyproject.toml constraints.txt
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@echo "Installing orthodiff and its pinned dependencies into $(VENV) (about 1.6 GB, once) ..."
	$(PIP) --editable .
	@touch $@

$(VENV)/.developer: $(VENV)/.runtime
	$(PIP) --editable '.[dev]'
	@touch $@

install: $(VENV)/.developer ## make .venv with everything a developer needs

demo: $(VENV)/.runtime ## personalise the pocket model on an example subject: runs/demo/grid.png
	$(PY) -m training dreambooth --config configs/pocket/demo.yaml --output_dir $(DEMO) \
		--overwrite_output_dir
	$(PY) -m orthodiff evaluate --pretrained_model_name_or_path $(BASE) --adapter $(DEMO) \
		--subject $(SUBJECT) --output_dir $(DEMO)

demo-control: $(VENV)/.runtime ## steer the pocket model by the edges of pictures: runs/demo-control/grid.png
	$(PY) -m orthodiff evaluate-control --pretrained_model_name_or_path $(BASE) \
		--adapter $(CONTROL) $(PHOTOS:%=--condition_from %) \
		--prompt "a photo of a red teapot" --prompt "a photo of a blue teapot on the beach" \
		--prompt "a photo of a green teapot in the snow" --output_dir runs/demo-control

studio: $(VENV)/.runtime ## open the web page on 127.0.0.1:7860
	$(PY) app.py

test: install lint ## install what is needed and run every test but the slow ones
	OMP_NUM_THREADS=1 $(PY) -m pytest -q -n 2 --dist loadfile

test-slow: install ## the checks that take minutes
	$(PY) -m pytest -q -m slow

lint: $(VENV)/.developer ## style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

clean: ## remove what was built, keep runs
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .mypy_cache
