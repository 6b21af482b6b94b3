# Test programs other than tests/unit: each adds itself to TEST_PROGRAMS.
TEST_PROGRAMS ?=
.PHONY: test-programs unit
test-programs: $(TEST_PROGRAMS)

# Benchmarks: tests/bench_X.c -> tests/bench-X, linked like a unit test; prints `name=value unit` lines.
BENCH := $(patsubst tests/bench_%.c,$(B)/tests/bench-%,$(wildcard tests/bench_*.c))
.PHONY: bench-programs
bench-programs: $(BENCH) $(B)/tests/unit/test_accuracy $(B)/tests/sim/generated
$(BENCH): $(B)/tests/bench-%: $(B)/tests/bench_%.o $(GOVERNOR) $(ESTIMATOR) $(PROBES) $(COMMON)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(INIH_LIBS) -lm

# The simulator is ground truth: it is linked beside the estimator, and calls nothing of it.
$(B)/tests/bench-timeline $(B)/tests/unit/test_timeline $(B)/tests/unit/test_model_layers: \
	$(B)/tests/sim/sim.o $(B)/tests/sim/measure.o

$(B)/tests/unit/test_online: $(B)/tests/sim/sim.o
$(B)/tests/unit/test_accuracy $(B)/tests/unit/test_prior: $(B)/tests/sim/boards.o $(B)/tests/sim/sim.o

$(B)/tests/unit/test_lane: $(B)/board/lane.o $(B)/board/cost.o $(B)/board/page.o

# Preloaded under the keeper by tests/keeper; not sanitized itself.
test-programs: $(B)/tests/keeper/shim.so
$(B)/tests/keeper/shim.so: tests/keeper/shim.c
	@mkdir -p $(@D)
	$(CC) -std=c17 -D_GNU_SOURCE -O1 -g -fPIC -shared -Wall -Wextra -o $@ $<

# Error tables over generated models, and the figure of docs/estimator.md.
SIM := $(B)/tests/sim/sim.o $(B)/tests/sim/measure.o
$(B)/tools/figure: $(B)/tools/figure.o $(SIM) $(ESTIMATOR) $(COMMON)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -lm
.PHONY: figure
figure: $(B)/tools/figure
	$< >docs/estimator.svg
$(B)/tests/sim/generated: $(B)/tests/sim/generated.o $(SIM) $(ESTIMATOR) $(COMMON)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -lm

# Estimator and governor in closed loop, and the daemon in virtual time, on boards of tests/vtime/plant.c.
$(B)/tests/unit/test_closed_loop: $(B)/tests/sim/sim.o $(B)/tests/vtime/plant.o
# Arithmetic by the billion: optimised in either build.
test-programs: $(if $(SANITIZE),generated,$(B)/tests/sim/generated)
.PHONY: generated
generated:
	@$(MAKE) --no-print-directory SANITIZE= build/release/tests/sim/generated

# The daemon under a virtual clock: flamed and its keeper are the release build's.
VTIME := $(addprefix $(B)/tests/vtime/,vtime.o drive.o client.o plant.o world.o) $(B)/tests/sim/sim.o $(B)/estimator/grid.o $(B)/estimator/sample.o
test-programs: $(B)/tests/vtime/vtime $(B)/tests/vtime/shim.so
$(B)/tests/vtime/vtime: $(VTIME) $(COMMON)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -lm
$(B)/tests/vtime/shim.so: tests/vtime/shim.c tests/vtime/page.h
	@mkdir -p $(@D)
	$(CC) -std=c17 -D_GNU_SOURCE -O1 -g -fPIC -shared -Wall -Wextra -o $@ $<
