# flamed: build, check, demo, bench, install. GNU make.
VERSION := 0.1.0
PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
SBINDIR ?= $(PREFIX)/sbin
LIBDIR ?= $(PREFIX)/lib
PRIVLIBDIR ?= $(LIBDIR)/flamed
LIBEXECDIR ?= $(PREFIX)/libexec/flamed
INCLUDEDIR ?= $(PREFIX)/include
MANDIR ?= $(PREFIX)/share/man
DATADIR ?= $(PREFIX)/share
SYSCONFDIR ?= /etc
BOARDSDIR ?= $(SYSCONFDIR)/flamed/boards.d
UNITDIR ?= $(PREFIX)/lib/systemd/system
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
TMPFILESDIR ?= $(PREFIX)/lib/tmpfiles.d
INSTALL ?= install
PKG_CONFIG ?= pkg-config

comma := ,
# `make SANITIZE=1` builds a second tree with ASan and UBSan; `make check` uses it.
B := build/$(if $(SANITIZE),asan,release)
WARN := -Wall -Wextra -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes -Wconversion -Wformat=2 -Werror
BASE := -std=c17 -D_GNU_SOURCE -fPIC -fvisibility=hidden -DFLAMED_VERSION='"$(VERSION)"' -DSYSCONFDIR='"$(SYSCONFDIR)"' \
	-DBOARDS_DIR='"$(BOARDSDIR)"' -DPRIVLIBDIR='"$(PRIVLIBDIR)"' -DLIBEXECDIR='"$(LIBEXECDIR)"'
OPT := $(if $(SANITIZE),-O1 -g -fno-omit-frame-pointer -fsanitize=address$(comma)undefined -fno-sanitize-recover=undefined,-O2 -g)
HARDEN := $(if $(SANITIZE),,-D_FORTIFY_SOURCE=2 -fstack-protector-strong)
ALL_CFLAGS = $(BASE) $(OPT) $(HARDEN) $(WARN) -MMD -MP $(CPPFLAGS) $(CFLAGS)
ALL_LDFLAGS = $(if $(SANITIZE),-fsanitize=address$(comma)undefined,-Wl$(comma)-z$(comma)relro$(comma)-z$(comma)now) $(LDFLAGS)

EVENT_LIBS = $(shell $(PKG_CONFIG) --libs libevent_core)
SYSTEMD_LIBS = $(shell $(PKG_CONFIG) --libs libsystemd)
INIH_LIBS = $(shell $(PKG_CONFIG) --libs inih)
CMOCKA_LIBS = $(shell $(PKG_CONFIG) --libs cmocka)

.DEFAULT_GOAL := all
.PHONY: all check demo bench fuzz check-kernel lint install uninstall deb clean deps-build

# A room is the objects of one folder; what it may call is the order in which
# programs link them.
room = $(patsubst %.c,$(B)/%.o,$(filter-out $(2),$(wildcard $(1)/*.c)))
COMMON := $(call room,common)
ESTIMATOR := $(call room,estimator)
GOVERNOR := $(call room,governor)
PROBES := $(call room,probes)

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

# Each room that makes something adds its targets to ALL, INSTALLS and TESTS.
ALL :=
include $(wildcard */rules.mk */*/rules.mk)

all: $(ALL)

# Unit tests: one cmocka program a file, linked with the pure rooms and probes.
UNIT := $(patsubst tests/unit/%.c,$(B)/tests/unit/%,$(wildcard tests/unit/test_*.c))
$(UNIT): $(B)/tests/unit/%: $(B)/tests/unit/%.o $(GOVERNOR) $(ESTIMATOR) $(PROBES) $(COMMON)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(UNIT_OBJS) $(CMOCKA_LIBS) $(INIH_LIBS) -lm

-include $(shell find $(B) -name '*.d' 2>/dev/null)

unit: $(UNIT)

# What is missing is installed by the script, which says what it does.
check:
	@tools/install-deps build check
	@tools/check

demo:
	@tools/install-deps build demo
	@$(MAKE) --no-print-directory all
	@tools/demo

# Figures of DESIGN-sized work, as ratios where a machine's speed would show.
bench:
	@tools/install-deps build bench
	@$(MAKE) --no-print-directory all bench-programs
	@tools/bench

# libFuzzer, FUZZ_S seconds each.
FUZZ_S ?= 60
fuzz:
	@tools/install-deps build fuzz
	@tools/fuzz $(FUZZ_S)

# The package, and the daemon in a virtual machine: real cpufreq, devfreq and systemd.
# Installs what it needs; what cannot be had is a skip.
check-kernel:
	@tools/check-kernel

lint:
	@tools/install-deps build lint
	@tools/lint

deb:
	@tools/install-deps build deb
	@tools/deb

install:: all
uninstall::

clean:
	rm -rf build build.log
