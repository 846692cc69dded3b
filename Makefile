# `make` alone prints the targets. Each target that runs something sets up what it needs first.

PYTHON ?= python3
VENV ?= .venv
# Another index for torch and torchvision, such as https://download.pytorch.org/whl/cpu (much smaller, no CUDA).
TORCH_INDEX ?=
# Where `make demo` writes, and the demo's own options (key=value).
DEMO ?= demo
ARGS ?=
# `make demo VIDEO=old.mp4 REFERENCE="photo.jpg other.jpg"` is about your own.
VIDEO ?=
REFERENCE ?=
# Of the experiments: tiny, mini or full, and more options, such as ARGS="data.root=/path/to/data jobs=2".
PRESET ?= mini
# More options for pytest, such as PYTEST="-k registry -x".
PYTEST ?=

# Small files under free licences that make faces and scores better; set-up tries to fetch them, 4.5 MB, and nothing needs them.
BETTER := yunet mobilefacenet niqe

BIN := $(VENV)/bin
STAMP := $(VENV)/.ipfvr-installed
PIP := $(BIN)/python -m pip --disable-pip-version-check

# uv installs in a fraction of pip's time; pip stands in where uv does not get through (a proxy, an old system).
install = $(if $(1),$(BIN)/uv pip install -q --python $(BIN)/python -c constraints.txt $(1) || \
  $(PIP) install -q -c constraints.txt $(1))

.DEFAULT_GOAL := help
.PHONY: help setup demo app train-mini test test-browser docs lint format clean

# The experiments, by target; each says in its file what it is.
REPRODUCE := table1 table2 table3 table4 table5 figure2 figure8 figure9 quality
ABLATE := dca eb np reward references steps
NOT_THE_PAPERS := reward-forms
EXPERIMENTS := $(REPRODUCE:%=reproduce-%) $(ABLATE:%=ablate-%) $(NOT_THE_PAPERS:%=ablate-%) sweep-weights
ALL := $(REPRODUCE:%=experiments/%.yaml) $(ABLATE:%=experiments/ablate_%.yaml) experiments/sweep_weights.yaml
.PHONY: $(EXPERIMENTS) reproduce-all
reproduce = HF_HUB_OFFLINE=1 $(BIN)/python -m ipfvr.reproduce $(1) preset=$(PRESET) $(ARGS)

help:  ## print this list
	@awk -F ':.*##' '/^[a-z][a-z0-9-]*:.*##/ {printf "  make %-20s%s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@for file in $(ALL) $(foreach name,$(NOT_THE_PAPERS),experiments/ablate_$(subst -,_,$(name)).yaml); do name=$$(basename $$file .yaml | tr _ -); \
	  case $$name in table*|figure*|quality) name=reproduce-$$name;; esac; \
	  printf '  make %-20s %s\n' $$name "$$(sed -n 's/^title: "\(.*\)"$$/\1/p' $$file)"; done
	@echo
	@echo "  PYTHON=$(PYTHON) (3.11 or newer)   VENV=$(VENV)   TORCH_INDEX=$(TORCH_INDEX) (another index for torch)"
	@echo "  PRESET=$(PRESET) (of the experiments: tiny, mini, full)   ARGS=\"data.root=/path/to/data jobs=2\" (their options)"

setup: $(STAMP)  ## make .venv and install the pinned packages into it; fetch small weights where there is a network

demo: $(STAMP)  ## degrade and restore a sample clip, or restore VIDEO=... REFERENCE=... as it is: writes demo/index.html
	HF_HUB_OFFLINE=1 $(BIN)/python -m ipfvr.demo --output $(DEMO) $(if $(VIDEO),--video "$(VIDEO)") \
	  $(if $(REFERENCE),--reference $(REFERENCE)) $(ARGS)

app: $(STAMP)  ## the restorer's window in your browser: drop a film and a picture (ARGS="--port 7860")
	HF_HUB_OFFLINE=1 $(BIN)/python -m ipfvr.app --browser $(ARGS)

$(REPRODUCE:%=reproduce-%): reproduce-%: $(STAMP)
	$(call reproduce,experiments/$*.yaml)

$(ABLATE:%=ablate-%) $(NOT_THE_PAPERS:%=ablate-%): ablate-%: $(STAMP)
	$(call reproduce,experiments/ablate_$(subst -,_,$*).yaml)

sweep-weights: $(STAMP)
	$(call reproduce,experiments/sweep_weights.yaml)

reproduce-all: $(STAMP)  ## every table, figure, ablation and search of the paper
	$(call reproduce,$(ALL))

train-mini: $(STAMP)  ## all weights of mini, from data to runs/train_mini: ARGS="--source /path/to/data"
	HF_HUB_OFFLINE=1 $(BIN)/python experiments/mini/train.py $(ARGS)

PYTEST_OFFLINE := HF_HUB_OFFLINE=1 WANDB_MODE=offline $(BIN)/python -m pytest

test: $(STAMP)  ## run the tests (without the slow ones and those for a GPU or a browser)
	$(PYTEST_OFFLINE) -m 'not slow and not gpu and not browser' -n 2 --dist loadfile --max-worker-restart 0 $(PYTEST)

test-browser: $(STAMP)  ## test the window in a real Chromium
	$(PYTEST_OFFLINE) -m browser $(PYTEST)

docs: $(STAMP)  ## build the site of docs/ into build/site; a broken link is an error
	@$(BIN)/python -c 'import mkdocs' 2>/dev/null || $(call install,-e '.[docs]')
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict -q
	@echo "build/site/index.html"

lint: $(STAMP)  ## check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP)  ## put style right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the virtual environment, the demo's output and caches
	rm -rf $(VENV) $(DEMO) build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Remade whenever what it installs changes.
$(STAMP): setup.cfg setup.py constraints.txt
	@command -v $(PYTHON) >/dev/null || { \
	  echo "error: no $(PYTHON): apt install python3 python3-venv, or make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: $$($(PYTHON) --version) is too old: 3.11 or newer is needed; make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  package=python$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv; \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing $$package"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$package; \
	  else \
	    echo "error: Python's venv is not installed: sudo apt install $$package" >&2; exit 2; \
	  fi; }
	@[ -x $(BIN)/python ] && $(PIP) --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "installing into $(VENV): several gigabytes the first time, unless TORCH_INDEX names an index of CPU builds"
	@$(PIP) install -q -c constraints.txt uv
	$(call install,$(if $(TORCH_INDEX),--index-url $(TORCH_INDEX) torch torchvision))
	$(call install,-e '.[dev]')
	@$(BIN)/python -m ipfvr.weights fetch --if-possible $(BETTER) || true
	@touch $@
