# The two commands of the README: `make run` and `make test`. The environment is .venv; `make clean` forgets it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
# A file is a worker's as a whole: tests of one file may be about one thing of this machine's, such as a group.
# Tests wait for processes as well as they compute: half as many more at a time as there are processors.
PYTEST := $(BIN)/pytest --numprocesses $(shell expr \( 3 \* $$(nproc) + 1 \) / 2) --dist loadfile
# What fails in the crowd is tried once more alone, and must pass then: what was slow is told from what is wrong. The
# output keeps the first failure.
ALONE := $(BIN)/pytest --last-failed --last-failed-no-failures none
# What boots a system, runs a container or drives a browser, `make test-system` has.
SYSTEM := tests/system tests/debian tests/containers tests/monitoring tests/browser tests/clusters tests/site
# Twisted's own port, whose defects are expected failures, is the same in all modes; tests/modes.py says what else is.
OURS := -m 'not xfail' -k 'not test_stock'
# The oldest Twisted that is served, in an environment of its own.
OLDEST := .venv-oldest
OLDEST_TWISTED := 24.11.*
# Other people's applications, which pin a Twisted and much else, in an environment of theirs.
APPLICATIONS := .venv-applications
# What makes the site, which nothing else needs.
DOCS := .venv-docs

.PHONY: run test test-modes test-long test-oldest test-newest test-applications test-system lint types unit coverage matrix deb soak format bench fuzz docs vendor screenshots release clean

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
	$(PYTEST) --mode unit || $(ALONE)

test-long: $(VENV)/installed-for-tests
	$(PYTEST) --mode long || $(ALONE)

# `make coverage COVERED=tests/policy` takes less than all; processes that the tests start count too.
COVERED ?= --mode unit
coverage: $(VENV)/installed-for-tests
	rm -rf build/coverage
	-$(BIN)/coverage run -m pytest -q $(PYTEST:$(BIN)/pytest%=%) $(COVERED)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# Each engine forced, a kernel without socket filters and one that does not segment; the oldest Twisted, and
# applications that others wrote.
test-modes: $(VENV)/installed-for-tests test-long test-oldest test-applications
	export UDPSERVICES_UNBATCHED=1 UDPSERVICES_NO_FILTERS=1; $(PYTEST) -q $(OURS) --mode unbatched || $(ALONE)
	export UDPSERVICES_BATCHED=1; $(PYTEST) -q $(OURS) --mode batched || $(ALONE)
	export UDPSERVICES_NO_GSO=1; $(PYTEST) -q $(OURS) --mode unsegmented || $(ALONE)

test-oldest: $(OLDEST)/installed-for-tests
	$(OLDEST)/bin/pytest --numprocesses auto --dist loadfile -q --mode oldest || $(ALONE:$(BIN)/%=$(OLDEST)/bin/%)

test-applications: $(VENV)/installed-for-tests $(APPLICATIONS)/installed
	$(BIN)/pytest -q tests/applications || $(ALONE) tests/applications

# The units, run by a systemd of its own, and the container's image; as root. `TREE_SUITE=sid make test-system` takes
# Debian's newest.
test-system: $(VENV)/installed-for-tests
	$(BIN)/pytest $(SYSTEM) || $(ALONE) $(SYSTEM)

# With each Python that this machine has, and the oldest and the newest Twisted: tools/matrix.py has options. What depends
# on Twisted, with the newest of them alone, where that is newer than this one: `make test-newest`.
matrix:
	$(PYTHON) tools/matrix.py $(MATRIX)

test-newest:
	$(PYTHON) tools/matrix.py --python newer --twisted newest -- --mode oldest

# The Debian package, in dist/, built in a Debian 13 of its own; as root.
deb: $(VENV)/installed-for-tests
	$(BIN)/python -m tests.debian.building dist

# `make soak SOAK_SECONDS=3600`: does anything grow under traffic?
soak: $(VENV)/installed-for-tests
	SOAK_SECONDS=$(or $(SOAK_SECONDS),60) $(BIN)/python -m tests.soak

format: $(VENV)/installed-for-tests
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# `make bench BENCH="--case gso* --turns 3"`; benchmarks/README.md says more.
bench: $(VENV)/installed-for-tests
	$(BIN)/python -m benchmarks $(BENCH)

# `make fuzz FUZZ_SECONDS=3600 FUZZ=config` is an hour of one target; tests/fuzz/ has them all.
FUZZ_SECONDS ?= 60
fuzz: $(VENV)/installed-for-fuzz
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS) $(FUZZ)

# The site, in build/site; an error is also a link that leads nowhere.
docs: $(DOCS)/installed
	$(DOCS)/bin/python -m docs.site.pages
	$(DOCS)/bin/python -m zensical build --clean --strict --config-file build/zensical.toml
	$(DOCS)/bin/python -m docs.site.check

# The chart library of the status page, out of its npm package.
vendor: $(VENV)/bin/python
	$(BIN)/python -m tools.vendor

# Those of docs/status-page.md; as tests/browser, with chromium and npm.
screenshots: $(VENV)/installed-for-tests
	$(BIN)/python -m tests.browser.screenshots

# `make release VERSION=0.2.0` makes the files to publish, a commit and a tag, and publishes nothing.
SUITE ?= make test
release: $(VENV)/installed-for-tests
	$(BIN)/python tools/release.py '$(VERSION)' --suite '$(SUITE)'

clean:
	rm -rf $(VENV) .venv-matrix $(OLDEST) $(APPLICATIONS) $(DOCS)

$(VENV)/bin/python $(OLDEST)/bin/python $(APPLICATIONS)/bin/python $(DOCS)/bin/python: %/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "This needs Python 3.11 or later; choose one with: make PYTHON=python3.x" >&2; exit 1; }
	@$(PYTHON) -m venv $* || { rm -rf $*; \
	  echo "No environment could be made; on Debian: apt-get install python3-venv" >&2; exit 1; }

$(VENV)/installed: $(VENV)/bin/python pyproject.toml
	@echo 'Installing udpservices into $(VENV) …'
	@$(PIP) install --editable .
	@touch $@

$(VENV)/installed-for-tests: $(VENV)/bin/python pyproject.toml
	@echo 'Installing udpservices and what its tests need into $(VENV) …'
	@$(PIP) install --editable '.[test]'
	@touch $@ $(VENV)/installed

$(VENV)/installed-for-fuzz: $(VENV)/bin/python pyproject.toml
	@echo 'Installing udpservices and what fuzzing needs into $(VENV) …'
	@$(PIP) install --editable '.[fuzz]'
	@touch $@ $(VENV)/installed

$(OLDEST)/installed-for-tests: $(OLDEST)/bin/python pyproject.toml
	@echo 'Installing udpservices and Twisted $(OLDEST_TWISTED) into $(OLDEST) …'
	@$(OLDEST)/bin/pip --disable-pip-version-check --quiet install --editable '.[test]' 'Twisted==$(OLDEST_TWISTED)'
	@touch $@

$(APPLICATIONS)/installed: $(APPLICATIONS)/bin/python pyproject.toml
	@echo 'Installing udpservices and the applications of others into $(APPLICATIONS) …'
	@$(APPLICATIONS)/bin/pip --disable-pip-version-check --quiet install --editable '.[applications]'
	@touch $@

$(DOCS)/installed: $(DOCS)/bin/python pyproject.toml
	@echo 'Installing what makes the site into $(DOCS) …'
	@$(DOCS)/bin/pip --disable-pip-version-check --quiet install --editable '.[docs]'
	@touch $@
