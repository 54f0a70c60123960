# make run          sets up .venv and runs the default pipeline (make run PIPELINE=digits: another)
# make test         sets up .venv and runs the tests
# make test-faults  sets up .venv and runs the long tests of kills, lost nodes, broken disks
# make test-docs    sets up .venv and runs the commands of the pages of docs/en, as a reader types them
# make chaos        the long form of the fault tests: 200 workers killed at random moments
# make fuzz         the long form of the fuzz tests: hours of new examples (make fuzz FUZZ_FACTOR=100: fewer)
PYTHON ?= python3
PIPELINE ?= default
WORKERS ?= 2
FUZZ_FACTOR ?= 2000
TESTS ?= not faults and not docs
PYTEST = .venv/bin/python -m pytest

.PHONY: run test test-faults test-docs test-both test-most test-cluster chaos fuzz setup

run: setup
	.venv/bin/gristmill run $(PIPELINE)

test: setup
	@$(MAKE) --no-print-directory test-both

test-faults: setup
	@$(MAKE) --no-print-directory test-both TESTS="faults and not docs"

test-docs: setup
	$(PYTEST) -n 2 --dist load -m docs tests/docs

test-both:
	@$(MAKE) --no-print-directory --keep-going -j2 test-most test-cluster

test-most:
	$(PYTEST) -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "$(TESTS) and not cluster"

# A process of its own: these tests change the token with which a process reaches Ray, and Ray keeps
# the first one. They run beside the others because they wait more than they compute.
test-cluster:
	@log=.venv/tests-cluster.log; PYTHONFAULTHANDLER=1 $(PYTEST) -m "$(TESTS) and cluster" tests/components/orchestration > $$log 2>&1; code=$$?; cat $$log; exit $$code

chaos: setup
	KILLS=200 $(PYTEST) tests/components/training/test_random_kills.py

fuzz: setup
	FUZZ_FACTOR=$(FUZZ_FACTOR) $(PYTEST) --timeout 0 tests/fuzz

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 4; }
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[pipeline,samples,dev]'
	@touch $@
