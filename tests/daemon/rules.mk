# Measures time: optimised in either build, and run from there.
LOAD := build/release/tests/daemon/load
test-programs: $(if $(SANITIZE),load-program,$(LOAD))
.PHONY: load-program
load-program:
	@$(MAKE) --no-print-directory SANITIZE= $(LOAD)
ifndef SANITIZE
$(LOAD): $(B)/tests/daemon/load.o $(COMMON)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -lm
endif
