# Each target installs what it needs; `make demo` and `make test` work on a fresh machine.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

# idle compute threads sleep instead of spinning, or busy cores make everything many times slower
export OMP_WAIT_POLICY ?= PASSIVE
export GOMP_SPINCOUNT ?= 10000

.PHONY: demo up test e2e lint bench bench-learning bench-prompts evaluate demo-checkpoint demo-checkpoint-groupvit clean

demo: .venv/installed
	$(BIN)/promptbrush demo --out out/demo

up: .venv/installed
	$(BIN)/promptbrush up

# real processes, which wait for each other, need the cores for themselves
test: .venv/installed-dev out/label-studio-ml
	$(BIN)/pytest -m "not live and not e2e and not gpu" -n auto --maxprocesses 8 --dist worksteal
	$(BIN)/pytest -m live

e2e: .venv/installed-dev
	@command -v chromium >/dev/null || { echo "make e2e needs Chromium: apt-get install chromium"; exit 1; }
	$(BIN)/pytest -m e2e

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --config setup.cfg

bench: .venv/installed-dev
	$(BIN)/python -m benchmarks.run

bench-learning: .venv/installed-dev
	$(BIN)/python -m benchmarks.bench_learning

bench-prompts: .venv/installed-dev
	$(BIN)/python -m benchmarks.bench_prompts

evaluate: .venv/installed
	$(BIN)/promptbrush evaluate

# faster where it has the cores for itself
demo-checkpoint demo-checkpoint-groupvit: export OMP_WAIT_POLICY = ACTIVE
demo-checkpoint demo-checkpoint-groupvit: export GOMP_SPINCOUNT = 1000000
demo-checkpoint: .venv/installed
	$(BIN)/python -m demo.train_clipseg

demo-checkpoint-groupvit: .venv/installed
	$(BIN)/python -m demo.train_groupvit

clean:
	rm -rf .venv build dist out *.egg-info

.venv/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --editable ".[dev]"
	touch $@

# without its pins: see setup.cfg
out/label-studio-ml: | .venv/installed-dev
	$(BIN)/pip install --no-deps --target $@ label-studio-ml==1.0.9
