# The two commands of the README: `make run` and `make test`. The environment is .venv; `make clean` forgets it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
# What the transport does where the C library has no recvmmsg, or the kernel does not segment, is tried by these.
BY_MODE := tests/transport/test_batches.py tests/transport/test_defects.py tests/transport/test_icmp.py

.PHONY: run test lint types unit format bench changelog clean

run: $(VENV)/installed
	@echo 'Serving udpecho on UDP port 9999, IPv4 and IPv6; Ctrl-C stops it. Try it from another terminal:'
	@echo '    echo hello | nc -4u -w1 localhost 9999'
	@echo '    echo hello | nc -6u -w1 ::1 9999'
	@exec $(BIN)/twistd -n --pidfile= udpecho --port 9999

test: lint types unit

lint: $(VENV)/installed-for-tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/installed-for-tests
	$(BIN)/mypy

# Among them tests/packaging, which builds the wheel and tries it in environments of its own.
unit: $(VENV)/installed-for-tests
	$(BIN)/pytest
	UDPSERVICES_UNBATCHED=1 $(BIN)/pytest -q $(BY_MODE)
	UDPSERVICES_NO_GSO=1 $(BIN)/pytest -q $(BY_MODE)

format: $(VENV)/installed-for-tests
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# `make bench BENCH="--case gso* --turns 3"`; benchmarks/README.md says more.
bench: $(VENV)/installed-for-tests
	$(BIN)/python -m benchmarks $(BENCH)

changelog: $(VENV)/installed-for-tests
	$(BIN)/towncrier build --yes

clean:
	rm -rf $(VENV)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "This needs Python 3.11 or later; choose one with: make PYTHON=python3.x" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "No environment could be made; on Debian: apt-get install python3-venv" >&2; exit 1; }

$(VENV)/installed: $(VENV)/bin/python pyproject.toml
	@echo 'Installing udpservices into $(VENV) …'
	@$(PIP) install --editable .
	@touch $@

$(VENV)/installed-for-tests: $(VENV)/bin/python pyproject.toml
	@echo 'Installing udpservices and what its tests need into $(VENV) …'
	@$(PIP) install --editable '.[test]'
	@touch $@ $(VENV)/installed
