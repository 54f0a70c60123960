# make run   sets up .venv and runs the default pipeline (make run PIPELINE=digits: another)
# make test  sets up .venv and runs the tests
# make chaos the long form of the fault tests: 200 workers killed at random moments
PYTHON ?= python3
PIPELINE ?= default

.PHONY: run test chaos setup

run: setup
	.venv/bin/gristmill run $(PIPELINE)

test: setup
	.venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --ignore tests/pipelines
	.venv/bin/python -m pytest tests/pipelines   # apart: they change the token with which this process reaches Ray, and Ray keeps what it saw first

chaos: setup
	KILLS=200 .venv/bin/python -m pytest tests/components/engine/test_random_kills.py

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 4; }
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[samples,dev]'
	@touch $@
