# flamed: build, check, demo, bench, install. GNU make.
VERSION := 0.1.0
PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
SBINDIR ?= $(PREFIX)/sbin
LIBDIR ?= $(PREFIX)/lib
PRIVLIBDIR ?= $(LIBDIR)/flamed
GST_PLUGINSDIR ?= $(LIBDIR)/gstreamer-1.0
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
PYTHON ?= $(firstword $(wildcard /usr/bin/python3) python3)
PKG_CONFIG ?= pkg-config

comma := ,
# Prints the file that is made; `make V=1` shows the commands.
ifndef V
.SILENT:
endif
# `make SANITIZE=1` builds a second tree with ASan and UBSan; `make check` uses it.
B := build/$(if $(SANITIZE),asan,release)
WARN := -Wall -Wextra -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes -Wconversion -Wformat=2 -Werror
# -ffp-contract=off: the same decisions on processors that fuse a multiplication and an addition as on those that
# do not.
BASE := -std=c17 -D_GNU_SOURCE -ffp-contract=off -fPIC -fvisibility=hidden -I$(B)
OPT := $(if $(SANITIZE),-O1 -g -fno-omit-frame-pointer -fsanitize=address$(comma)undefined \
	-fno-sanitize-recover=undefined,-O2 -g)
HARDEN := $(if $(SANITIZE),,-D_FORTIFY_SOURCE=2 -fstack-protector-strong)
ALL_CFLAGS = $(BASE) $(OPT) $(HARDEN) $(WARN) -MMD -MP $(CPPFLAGS) $(CFLAGS)
ALL_LDFLAGS = $(if $(SANITIZE),-fsanitize=address$(comma)undefined,-Wl$(comma)-z$(comma)relro$(comma)-z$(comma)now) \
	$(LDFLAGS)

EVENT_LIBS = $(shell $(PKG_CONFIG) --libs libevent_core)
SYSTEMD_LIBS = $(shell $(PKG_CONFIG) --libs libsystemd)
INIH_LIBS = $(shell $(PKG_CONFIG) --libs inih)
NCURSES_LIBS = $(shell $(PKG_CONFIG) --libs ncursesw)
SQLITE_LIBS = $(shell $(PKG_CONFIG) --libs sqlite3)
JANSSON_LIBS = $(shell $(PKG_CONFIG) --libs jansson)
CMOCKA_LIBS = $(shell $(PKG_CONFIG) --libs cmocka)

.DEFAULT_GOAL := all
.PHONY: all check check-quick check-clang check-cross coverage demo bench compare fuzz check-kernel lint \
	install uninstall deb clean force

# Folders that are removed once nothing is in them.
remove_empty = @for dir in $(1); do rmdir "$(DESTDIR)$$dir" 2>/dev/null || :; done

# A room is the objects of one folder; what it may call is the order in which
# programs link them.
room = $(patsubst %.c,$(B)/%.o,$(filter-out $(2),$(wildcard $(1)/*.c)))
COMMON := $(call room,common)
ESTIMATOR := $(call room,estimator)
GOVERNOR := $(call room,governor)
PROBES := $(call room,probes)
LAYER_CORE := $(call room,layers/core)

# Every path that a program or a file carries. Another PREFIX or path variable changes this file,
# and what includes or depends on it is made again: `make install PREFIX=/usr` is enough. If root does so, these
# files are root's: they are replaced rather than written, so that the user can make them again.
PATHS := $(B)/installation.h
define PATHS_TEXT
#define FLAMED_VERSION "$(VERSION)"
#define BINDIR "$(BINDIR)"
#define SBINDIR "$(SBINDIR)"
#define DATADIR "$(DATADIR)"
#define SYSCONFDIR "$(SYSCONFDIR)"
#define BOARDS_DIR "$(BOARDSDIR)"
#define PRIVLIBDIR "$(PRIVLIBDIR)"
#define GST_PLUGINSDIR "$(GST_PLUGINSDIR)"
#define LIBEXECDIR "$(LIBEXECDIR)"
/* in libflamed.pc: $(PREFIX) $(LIBDIR) $(INCLUDEDIR) */
endef
export PATHS_TEXT
$(PATHS): force
	@mkdir -p $(@D)
	@printf '%s\n' "$$PATHS_TEXT" >$@.$$$$; cmp -s $@.$$$$ $@ && rm -f $@.$$$$ || mv -f $@.$$$$ $@

# Requirements of the build are checked once, before the first compiler call.
$(B)/build-deps: tools/install-deps
	@mkdir -p $(@D)
	@CC='$(CC)' PKG_CONFIG='$(PKG_CONFIG)' tools/install-deps --require build
	@touch $@

$(B)/%.o: %.c | $(PATHS) $(B)/build-deps
	@mkdir -p $(@D)
	@rm -f $(@:.o=.d)
	@echo "  CC $@"
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

# First of all installing: nothing is copied before everything is built.
install:: all

# Each room that makes something adds its targets to ALL, INSTALLS and TESTS.
ALL :=
# A rule that names another room's objects comes after the room that lists them.
include $(patsubst %,%/rules.mk,lib keeper daemon ctl exporter board etc man systemd) \
	$(wildcard layers/*/rules.mk tests/rules.mk tests/*/rules.mk)

all: $(ALL)

# Unit tests: one cmocka program a file, linked with the pure rooms and probes.
UNIT := $(patsubst tests/unit/%.c,$(B)/tests/unit/%,$(wildcard tests/unit/test_*.c))
$(UNIT): $(B)/tests/unit/%: $(B)/tests/unit/%.o $(GOVERNOR) $(ESTIMATOR) $(PROBES) $(COMMON)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(UNIT_OBJS) $(CMOCKA_LIBS) $(INIH_LIBS) -lm

-include $(shell find $(B) -type f -name '*.d' 2>/dev/null)

unit: $(UNIT)

# The script installs missing packages and prints what it does.
check:
	@tools/install-deps build check
	@tools/check

# The tests that a change breaks most often, in under three minutes.
check-quick:
	@tools/install-deps build check
	@tools/check --quick

# Lines that the tests run, in percent, of the rooms that decide and write.
coverage:
	@tools/install-deps build check coverage
	@tools/coverage

# Everything with another compiler: its warnings are errors too. They do not depend on optimisation, but glibc's headers
# do: with __OPTIMIZE__ they declare the results that must be used.
check-clang:
	@tools/install-deps build clang
	@$(MAKE) --no-print-directory B=build/clang CC=clang OPT='-O0 -D__OPTIMIZE__' \
		all unit test-programs bench-programs

# Everything for another architecture, run by qemu-user: unit tests, a population, the packages.
check-cross:
	@tools/install-deps build deb
	@tests/cross/cross.sh $(or $(ARCH),arm64)

# DETAILS=1 adds the figures of every deadline.
demo:
	@tools/install-deps build demo
	@tools/demo --build $(if $(DETAILS),--details)

# Figures of DESIGN-sized work, as ratios where a machine's speed would show.
bench:
	@tools/install-deps build bench
	@$(MAKE) --no-print-directory all bench-programs
	@tools/bench

# flamed and its rivals over the same boards, arrivals and noise: the tables of docs/compare.md.
compare:
	@tools/install-deps build bench
	@$(MAKE) --no-print-directory all bench-programs
	@VTIME_SHIM=$(B)/tests/vtime/shim.so RELEASE_DIR=$(B) $(B)/tests/rivals/rivals

# libFuzzer, FUZZ_S seconds each.
FUZZ_S ?= 60
fuzz:
	@tools/install-deps build fuzz
	@tools/fuzz $(FUZZ_S)

# The package, and the daemon in a virtual machine: real cpufreq, devfreq and systemd.
# Installs its requirements; an unavailable one is a skip.
check-kernel:
	@tools/check-kernel

lint:
	@tools/install-deps build check lint
	@tools/lint

deb:
	@tools/install-deps build deb
	@tools/deb build/deb$(addprefix -,$(ARCH)) $(ARCH)

# Folders of several rooms, after their files.
uninstall::
	$(call remove_empty,$(PRIVLIBDIR) $(LIBEXECDIR) $(DATADIR)/flamed $(BOARDSDIR) $(SYSCONFDIR)/flamed)
	$(call remove_empty,$(UNITDIR) $(SYSUSERSDIR) $(TMPFILESDIR) $(LIBDIR)/pkgconfig $(GST_PLUGINSDIR) \
		$(foreach s,1 3 5 8,$(MANDIR)/man$(s)) $(DATADIR)/bash-completion/completions \
		$(DATADIR)/vulkan/explicit_layer.d $(DATADIR)/vulkan/implicit_layer.d)
	$(call remove_empty,$(dir $(UNITDIR)) $(dir $(LIBEXECDIR)) $(DATADIR)/bash-completion $(DATADIR)/vulkan)

# Only for an installation on this machine: a package has triggers for it.
ifeq ($(DESTDIR),)
install uninstall::
	@test "$$(id -u)" != 0 || ldconfig
endif

clean:
	rm -rf build build.log
