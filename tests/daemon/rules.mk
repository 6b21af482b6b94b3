# Measures time: optimised in either build, and run from there.
LOAD := $(if $(SANITIZE),build/release,$(B))/tests/daemon/load
test-programs: $(if $(SANITIZE),load-program,$(LOAD))
.PHONY: load-program
load-program:
	@$(MAKE) --no-print-directory SANITIZE= $(LOAD)
ifndef SANITIZE
$(LOAD): $(B)/tests/daemon/load.o $(COMMON)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -lm
endif

# The daemon's own files on a clock, a loop and a keeper of the test's.
REPLIES := $(addprefix $(B)/tests/daemon/,replies.o world.o) \
	$(filter-out $(addprefix $(B)/daemon/,main.o notify.o loop.o keeper_link.o),$(FLAMED_OBJS)) \
	$(B)/keeper/hello.o $(GOVERNOR) $(ESTIMATOR) $(PROBES) $(filter-out $(B)/common/clock.o,$(COMMON))
test-programs: $(B)/tests/daemon/replies
$(B)/tests/daemon/replies: $(REPLIES)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(INIH_LIBS) -lm
