# Everything a newcomer needs. Each target sets up .venv first if that has not happened yet.
#
#   make demo     a trained policy drives a simulated robot in real time; writes outputs/demo/
#   make test     the fast tests, on a CPU
#   make test-long   the executor's properties over ten times as many random scenarios, an endurance run, slow tests
#   make test-faults the real server and robot stubs as processes, broken on purpose; wall-clock time
#   make test-scale  two replicas under Ray Serve, one killed; brings Ray into build/scale
#   make test-quant  the tests of int8 and int4 weights; brings torchao into build/quant, beside .venv, because Transformers
#                    loads it wherever it is installed, which slows every command
#   make interop  data sets in and out of the lerobot package; makes .venv-lerobot (8 GB, less with TORCH_INDEX)
#   make interop-peers  openpi's client, the vla-evaluation-harness and others against our server
#   make interop-lerobot  the plugin in a current LeRobot (Python 3.12, 8 GB)
#   make check    format, lint, types, layers, house rules
#   make bench    every measured figure, one JSON line each; bench/full_size.py takes about 10 GB (skipped with less than 12 GB free)
#   make install  only the set-up.  PYTHON=..., TORCH=..., TORCH_INDEX=... choose other parts: see tools/setup.sh

.PHONY: demo test test-long test-faults test-scale test-quant interop interop-lerobot interop-peers check bench install clean
.NOTPARALLEL:

BIN := .venv/bin
READY := .venv/ready

# One thread per process: the tests run in two processes, and the control loop must not compete with a thread pool.
export OMP_NUM_THREADS ?= 1

demo: $(READY)
	$(BIN)/python examples/01_real_time_demo.py

test: $(READY)
	$(BIN)/python -m pytest -q -n 2 -m "not slow and not gpu and not sim and not interop and not faults and not scale"

test-long: $(READY)
	CEREBELLA_SCENARIOS=100000 $(BIN)/python -m pytest -q -n 2 --timeout 7200 tests/runtime/test_executor_properties.py tests/runtime/test_limit_properties.py tests/runtime/test_endurance.py
	$(BIN)/python -m pytest -q -n 2 --timeout 1800 -m "slow and not faults" tests

test-faults: $(READY)
	$(BIN)/python -m pytest -q -m faults tests/faults

test-scale: $(READY)
	$(BIN)/python -m pip install -q --upgrade --target build/scale -c constraints.txt "ray[serve]"
	PYTHONPATH=build/scale $(BIN)/python -m pytest -q -s -m scale tests/serving/test_ray_serve.py

test-quant: $(READY)
	$(BIN)/python -m pip install -q --upgrade --no-deps --target build/quant -c constraints.txt torchao
	PYTHONPATH=build/quant $(BIN)/python -m pytest -q -n 2 tests/policies/engine/test_quantization.py

# LeRobot brings its own torch, so it lives in an environment of its own; CEREBELLA_LEROBOT_PYTHON names one that exists.
# The versions are what lerobot's own pins chose. One of its packages (evdev) is compiled: it needs a C compiler.
interop: $(READY)
	@test -n "$(CEREBELLA_LEROBOT_PYTHON)" || test -x .venv-lerobot/bin/lerobot-info || { \
	  echo "==> making .venv-lerobot (8 GB; less with TORCH_INDEX=https://download.pytorch.org/whl/cpu)" && \
	  $(BIN)/python -m venv .venv-lerobot && \
	  .venv-lerobot/bin/pip install -q torch==2.10.0 torchvision==0.25.0 $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) && \
	  .venv-lerobot/bin/pip install -q lerobot==0.4.4 torchcodec==0.10.0 datasets==4.8.5 av==15.1.0 pyarrow==26.0.1 numpy==2.2.6; }
	@test -n "$(CEREBELLA_LEROBOT_PYTHON)" || { .venv-lerobot/bin/pip install -q websockets msgpack && \
	  .venv-lerobot/bin/pip install -q --no-deps -e plugins/lerobot_policy_cerebella; }
	CEREBELLA_LEROBOT_PYTHON=$(or $(CEREBELLA_LEROBOT_PYTHON),$(CURDIR)/.venv-lerobot/bin/python) \
	  $(BIN)/python -m pytest -q -rA -m interop tests/interop

# Other projects' clients, servers and harness. CEREBELLA_OPENPI_SOURCE, CEREBELLA_XR0_SOURCE, CEREBELLA_XR1_SOURCE name checkouts; a test
# without its checkout is skipped.
interop-peers: $(READY)
	@test -x build/venv-openpi/bin/python || { $(BIN)/python -m venv build/venv-openpi && \
	  build/venv-openpi/bin/pip install -q openpi-client==0.1.2 typing_extensions==4.16.0 websockets==17.4 msgpack==1.2.4 numpy==1.26.4 dm-tree==0.1.10 pillow==13.0.0; }
	@test -x build/venv-vla-eval/bin/python || { $(BIN)/python -m venv build/venv-vla-eval && \
	  build/venv-vla-eval/bin/pip install -q vla-eval==0.8.0 websockets==17.4 msgpack==1.2.4 numpy==2.4.6; }
	CEREBELLA_OPENPI_PYTHON=$(CURDIR)/build/venv-openpi/bin/python CEREBELLA_VLA_EVAL_PYTHON=$(CURDIR)/build/venv-vla-eval/bin/python \
	  $(BIN)/python -m pytest -q -rA -m interop tests/interop/test_peers.py

# The plugin with a current LeRobot, which needs Python 3.12 (PYTHON312=...).
PYTHON312 ?= python3.12
interop-lerobot: $(READY)
	@test -x .venv-lerobot-current/bin/lerobot-train || { $(PYTHON312) -m venv .venv-lerobot-current && \
	  .venv-lerobot-current/bin/pip install -q 'lerobot[training]==0.6.1' torch==2.10.0 torchvision==0.25.0 torchcodec==0.10.0 transformers==5.23.0 websockets msgpack && \
	  .venv-lerobot-current/bin/pip install -q --no-deps -e plugins/lerobot_policy_cerebella; }
	CEREBELLA_LEROBOT_PYTHON=$(CURDIR)/.venv-lerobot-current/bin/python $(BIN)/python -m pytest -q -rA tests/interop/test_lerobot_plugin.py

check: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/pyright
	$(BIN)/python -m pytest -q tests/test_house.py tests/test_layers.py

bench: $(READY)
	@set -e; for script in bench/*.py; do echo "==> $$script"; $(BIN)/python $$script; done

install: $(READY)

$(READY): pyproject.toml constraints.txt tools/setup.sh
	@bash tools/setup.sh
	@touch $@

clean:
	rm -rf .venv outputs build
