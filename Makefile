# make run   sets up .venv and runs the default pipeline (make run PIPELINE=digits: another)
# make test  sets up .venv and runs the tests
# make chaos the long form of the fault tests: 200 workers killed at random moments
# make fuzz  the long form of the fuzz tests: hours of new examples (make fuzz FUZZ_FACTOR=100: fewer)
PYTHON ?= python3
PIPELINE ?= default
FUZZ_FACTOR ?= 2000

.PHONY: run test test-most test-orchestration chaos fuzz setup

run: setup
	.venv/bin/gristmill run $(PIPELINE)

test: setup
	@$(MAKE) --no-print-directory --keep-going -j2 test-most test-orchestration

test-most:
	.venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --ignore tests/components/orchestration

# A process of its own, for these change the token with which a process reaches Ray, and Ray keeps what it saw first; beside the others, for it waits more than it computes.
test-orchestration:
	@.venv/bin/python -m pytest tests/components/orchestration > .venv/tests-orchestration.log 2>&1; code=$$?; cat .venv/tests-orchestration.log; exit $$code

chaos: setup
	KILLS=200 .venv/bin/python -m pytest tests/components/training/test_random_kills.py

fuzz: setup
	FUZZ_FACTOR=$(FUZZ_FACTOR) .venv/bin/python -m pytest --timeout 0 tests/fuzz

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 4; }
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[samples,dev]'
	@touch $@
