# The ways in. Each target calls a script that says what it does, does only
# what is not done yet, and can be interrupted and run again.
#
# SPDX-License-Identifier: GPL-2.0-or-later

PYTHON = /usr/bin/python3
SIM_SEED = 1
SIM_SECONDS = 120

# The QEMU that the series is made for, a directory of patches/, which says what
# it is derived `from` and where QEMU has its `guestperf`
BASES = $(notdir $(wildcard patches/*))
ifeq ($(BASE),)
override BASE := $(patsubst patches/%/base,%,\
                            $(shell grep -L '^from=' patches/*/base))
endif
export BASE
-include patches/$(BASE)/base
SUFFIX = $(if $(from),-$(BASE))
TREE = build/qemu-$(BASE)
TESTS = $(if $(from),build/source-$(BASE)/)$(guestperf)
DIRTYTHROTTLE = $(TESTS)/dirtythrottle
GUESTPERF = $(TREE)/$(guestperf)
export QEMU_BINARY ?= $(CURDIR)/build/$(BASE)/qemu-system-x86_64

# Groups of tests
CHECKS = build unit qtest functional guestperf nested static aarch64

.PHONY: help deps prepare build build-asan build-tsan build-aarch64 \
        build-pristine guest demo check check-differing $(CHECKS:%=check-%) \
        check-series chaos fuzz bench bench-engine bench-nested \
        bench-guestperf sim sim-search series clean distclean

help:
	@echo "make demo       show a migration that would never end come to its end, and"
	@echo "                at what price (8 minutes from nothing, then a bit over one);"
	@echo "                DEMO_ARGS=\"--limit 25\" shows dirty-limit as well"
	@echo "make check      build what is needed and run every test (half an hour);"
	@echo "                check-unit (3 minutes) needs no QEMU; check-build,"
	@echo "                check-qtest, check-functional, check-guestperf,"
	@echo "                check-static, check-aarch64; check-nested (6 minutes)"
	@echo "                needs no KVM"
	@echo "make chaos      migrations in which anything may happen (20 minutes);"
	@echo "                CHAOS_SEED=N plays a run again, CHAOS_EVENTS=N and"
	@echo "                CHAOS_SECONDS=N end it, CHAOS_REPLAY=FILE plays what"
	@echo "                failed; SANITIZER=asan or tsan, QEMU_BINARY=PATH"
	@echo "make fuzz       let libFuzzer look for what breaks the engine, for"
	@echo "                FUZZ_SECONDS=300; needs no QEMU"
	@echo "make sim        migrations in a model, with the engine that QEMU runs, of"
	@echo "                guests and links that no machine here has (a minute), or"
	@echo "                SCENARIOS=\"PATH ...\"; build/sim/index.html has charts"
	@echo "                (sim-search: made-up ones, for SIM_SECONDS=120 from"
	@echo "                SIM_SEED=1 on)"
	@echo "make bench      measure what the series promises, as JSON and a table;"
	@echo "                PEERS=\"label=/path/to/qemu-system-x86_64 ...\" adds columns,"
	@echo "                BENCH_ARGS=--list tells which rows there are (hours for all);"
	@echo "                bench-engine (seconds) measures the arithmetic of an exit,"
	@echo "                bench-nested takes rows at a tenth where KVM is missing,"
	@echo "                bench-guestperf (30 minutes for each binary) compares"
	@echo "                strategies over links and write rates, and draws a page"
	@echo
	@echo "make prepare    fetch QEMU and lay files and patches over it (30 s);"
	@echo "                QEMU_SRC=/path takes an unpacked QEMU instead"
	@echo "make build      build/$(BASE)/qemu-system-x86_64 (5 minutes, then seconds)"
	@echo "                (build-asan, build-tsan: build/$(BASE)-asan and -tsan, with"
	@echo "                sanitizers, for scripts/sanitized; 15 minutes each;"
	@echo "                build-aarch64: build/$(BASE)-aarch64/qemu-system-aarch64;"
	@echo "                build-pristine: QEMU without the series, for PEERS)"
	@echo "make series     the patches as mails in build/series (20 s)"
	@echo "                (check-series: build and test after each of them, hours;"
	@echo "                SERIES_ARGS=\"--from N --to N\" takes some)"
	@echo "All of this is for QEMU $(BASE); BASE=N takes another: $(BASES)"
	@echo
	@echo "make clean      remove what was built; the source stays"
	@echo "make distclean  remove build/ as a whole, the fetched source as well"

deps:
	@scripts/deps

prepare: deps
	@scripts/prepare

build: prepare
	@scripts/build-qemu

# For scripts/sanitized, which runs a command with such a QEMU; for another
# target; and for PEERS
build-asan build-tsan build-aarch64 build-pristine: build-%: prepare
	@scripts/build-qemu $*

guest: deps
	@$(MAKE) -s -C tests/migration/stress-guest O=$(CURDIR)/build/stress-guest

demo: build guest
	@PYTHONPATH=$(TREE)/python:$(TESTS) \
	    $(PYTHON) $(DIRTYTHROTTLE)/demo.py $(DEMO_ARGS)

bench: build guest bench-engine
	@PYTHONPATH=$(TREE)/python:$(TESTS) PEERS="$(PEERS)" \
	    $(PYTHON) $(DIRTYTHROTTLE)/bench.py \
	    --name bench$(SUFFIX) $(BENCH_ARGS)
ifeq ($(BENCH_ARGS),)
	@$(MAKE) -s bench-guestperf
endif

# Continues where it was interrupted; its directory has all of its results.
COMPARISON = build/guestperf$(SUFFIX)

bench-guestperf: build guest
	@$(PYTHON) -B $(GUESTPERF)/guestperf-batch.py --resume \
	    --binary build/$(BASE)/qemu-system-x86_64 $(PEERS:%=--peer %) \
	    --guest stress-guest --cpus 2 --mem 0.42 --dirty-ring-size 4096 \
	    --sleep 4 --filter 'compr-throttle/*' --output $(COMPARISON)
	@$(PYTHON) -B $(GUESTPERF)/guestperf-plot.py --text $(COMPARISON)
	@$(PYTHON) -B $(GUESTPERF)/guestperf-plot.py $(COMPARISON) \
	    --output $(COMPARISON)/comparison.html
	@echo "The page is $(COMPARISON)/comparison.html"

# Rows at a tenth of their size, in a machine with KVM that TCG emulates
bench-nested: build guest
	@PEERS="$(PEERS)" tests/nested/bench nested$(SUFFIX) $(BENCH_ARGS)

# Migrations in a model, with the engine that QEMU runs; needs no QEMU.
SIM = build/sim-engine/throttle-sim
SIM_PYTHON = PYTHONPATH=tests/migration $(PYTHON) -B -m

sim: deps
	@test -d build/sim-engine || \
	    PATH=/usr/bin:$$PATH meson setup -Dbuildtype=release \
	        build/sim-engine >/dev/null
	@PATH=/usr/bin:$$PATH ninja -C build/sim-engine throttle-sim >/dev/null
	@$(SIM_PYTHON) throttlesim --output build/sim $(SIM) $(SCENARIOS)

# And a search for one in which a promise is broken
sim-search: sim
	@$(SIM_PYTHON) throttlesim.search --seed $(SIM_SEED) \
	    --seconds $(SIM_SECONDS) --found build/sim/found $(SIM)

# What the arithmetic costs at an exit; needs no QEMU.
bench-engine: deps
	@test -d build/bench-engine || \
	    PATH=/usr/bin:$$PATH meson setup -Dbuildtype=release \
	        build/bench-engine >/dev/null
	@PATH=/usr/bin:$$PATH ninja -C build/bench-engine bench-dirty-exit \
	    bench-dirty-faults >/dev/null
	@build/bench-engine/bench-dirty-exit
	@build/bench-engine/bench-dirty-faults

# Which settings there are is said in chaos/__main__.py; they are variables of
# the environment, or arguments of make.
export CHAOS_SEED CHAOS_EVENTS CHAOS_SECONDS CHAOS_REPLAY CHAOS_SHOW SANITIZER

chaos: build guest $(SANITIZER:%=build-%)
	@PYTHONPATH=$(TREE)/python:$(TESTS) \
	    $(SANITIZER:%=scripts/sanitized %) $(PYTHON) -m dirtythrottle.chaos

# The check prepares and builds by itself, so that a failure there is counted.
check: deps
	@$(PYTHON) scripts/check

# What one base may differ in from another, as far as it needs no KVM
check-differing: deps
	@$(PYTHON) scripts/check build qtest nested static

$(CHECKS:%=check-%): check-%: deps
	@$(PYTHON) scripts/check $*

# Nothing else needs clang.
fuzz:
	@scripts/deps clang-14 libclang-rt-14-dev
	@scripts/fuzz

series: prepare
	@scripts/format-series

# No part of `check`: it takes hours.
check-series: series
	@$(PYTHON) scripts/check-series $(SERIES_ARGS)

clean:
	rm -rf build/engine build/engine-asan build/engine-tsan \
	    build/bench-engine build/fuzz build/sim build/sim-engine \
	    build/stress-guest build/chaos build/guestperf-short build/nested \
	    build/qemu-system-x86_64 \
	    $(foreach base,$(BASES),build/$(base) build/$(base)-asan \
	        build/$(base)-tsan build/$(base)-aarch64 \
	        build/$(base)-pristine) \
	    $(foreach name,check series series-tree check-series, \
	        build/$(name) $(BASES:%=build/$(name)-%))

distclean:
	rm -rf build
