# Every target sets up what it needs first, and does not again until a lock file changes.
#   make demo  ARGS="--source-dies"      make test ARGS="tests/unit -k journal"
#   make sip-lab ARGS="--fault all --cps 200"
#   make PYTHON=/path/to/python3.12 …    JOBS=2 for fewer test workers

ARGS ?=
JOBS ?= 4
export PYTHON

.PHONY: help demo sip-lab test quick check bench lock clean setup-demo setup-dev setup-bench

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' Makefile

demo: setup-demo ## A site dies, work moves, work comes back: on real local processes
	@.venv/bin/ccfailover demo $(ARGS)

sip-lab: setup-demo ## Real calls, a real SIP edge, headquarters fails: needs root, Kamailio and SIPp
	@.venv/bin/python examples/sip-lab/run.py $(ARGS)

test: setup-dev ## Every test
	@.venv/bin/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

quick: setup-dev ## Tests without the slow ones
	@.venv/bin/python -m pytest -n $(JOBS) --dist worksteal -m "not slow" $(ARGS)

check: setup-dev ## Lint, types, import contracts, documents
	@status=0; \
	for check in "ruff check ." "mypy" "lint-imports --no-logo" \
	    "python tools/check_docs.py" "python tools/gen_policy_docs.py --check" \
	    "python tools/gen_provider_docs.py --check" "python tools/check_size.py"; do \
	  echo "$$check"; .venv/bin/$$check || status=1; \
	done; exit $$status

bench: setup-dev setup-bench ## Measure beside other tools, 5 minutes; writes benchmarks/RESULTS.md
	@status=0; \
	for part in startup poll move workers sqs_raw step run plan; do \
	  echo; .venv/bin/python benchmarks/$$part.py --write || status=1; \
	done; exit $$status

lock: ## Make the lock files anew (ARGS=--upgrade takes newer versions)
	@tools/lock.sh $(ARGS)

clean: ## Remove everything that the other targets made
	rm -rf .venv .venv-bench build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	rm -rf .import_linter_cache .hypothesis .coverage
	find ccfailover tests tools benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

setup-demo:
	@tools/setup_env.sh demo

setup-dev:
	@tools/setup_env.sh dev

setup-bench:
	@tools/setup_env.sh bench
