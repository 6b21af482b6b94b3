# Test programs other than tests/unit: each adds itself to TEST_PROGRAMS.
TEST_PROGRAMS ?=
.PHONY: test-programs unit
test-programs: $(TEST_PROGRAMS)

# Benchmarks: tests/bench_X.c -> tests/bench-X, linked like a unit test; prints `name=value unit` lines.
BENCH := $(patsubst tests/bench_%.c,$(B)/tests/bench-%,$(wildcard tests/bench_*.c))
.PHONY: bench-programs
bench-programs: $(BENCH) $(B)/tests/population/daemon $(B)/tests/vtime/shim.so \
	$(B)/tests/unit/test_accuracy $(B)/tests/sim/generated
$(BENCH): $(B)/tests/bench-%: $(B)/tests/bench_%.o $(GOVERNOR) $(ESTIMATOR) $(PROBES) $(COMMON)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(INIH_LIBS) -lm

# Its clients, and load by other users beside them.
$(B)/tests/bench-daemon: $(B)/tests/bench/client.o $(B)/tests/bench/worst.o

# The simulator is ground truth: it is linked beside the estimator, and calls nothing of it.
$(B)/tests/bench-timeline $(B)/tests/unit/test_timeline $(B)/tests/unit/test_model_layers: \
	$(B)/tests/sim/sim.o $(B)/tests/sim/measure.o

$(B)/tests/unit/test_online: $(B)/tests/sim/sim.o
$(B)/tests/unit/test_accuracy: $(B)/tests/sim/boards.o $(B)/tests/sim/sim.o

$(B)/tests/unit/test_lane: $(B)/board/lane.o $(B)/board/cost.o $(B)/board/page.o

# Preloaded under the keeper by tests/keeper; not sanitized itself.
test-programs: $(B)/tests/keeper/shim.so
$(B)/tests/keeper/shim.so: tests/keeper/shim.c
	@mkdir -p $(@D)
	$(CC) -std=c17 -D_GNU_SOURCE -O1 -g -fPIC -shared -Wall -Wextra -o $@ $<

# A stand-in for NVIDIA's NVML, for the keeper. Never installed.
test-programs: $(B)/tests/keeper/nvml/libnvidia-ml.so.1
$(B)/tests/keeper/nvml/libnvidia-ml.so.1: tests/keeper/standin_nvml.c
	@mkdir -p $(@D)
	$(CC) -std=c17 -D_GNU_SOURCE -O1 -g -fPIC -shared -Wall -Wextra -Wl,-soname,libnvidia-ml.so.1 -o $@ $<

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
STATISTICS := $(addprefix tests/sim/,generated fleet prior)
test-programs: $(if $(SANITIZE),statistics,$(addprefix $(B)/,$(STATISTICS)))
.PHONY: statistics
statistics:
	@$(MAKE) --no-print-directory SANITIZE= $(addprefix build/release/,$(STATISTICS))
$(B)/tests/sim/fleet $(B)/tests/sim/prior: $(B)/tests/sim/%: $(B)/tests/sim/%.o $(B)/tests/sim/boards.o \
		$(B)/tests/sim/sim.o $(ESTIMATOR) $(COMMON)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(CMOCKA_LIBS) -lm

# The daemon under a virtual clock: flamed and its keeper are the release build's.
VTIME := $(addprefix $(B)/tests/vtime/,vtime.o scenarios.o recordings.o drive.o client.o plant.o world.o) \
	$(B)/tests/population/boards.o $(B)/tests/sim/sim.o $(B)/estimator/grid.o $(B)/estimator/sample.o
test-programs: $(B)/tests/vtime/vtime $(B)/tests/vtime/shim.so
$(B)/tests/vtime/vtime: $(VTIME) $(COMMON)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -lm
$(B)/tests/vtime/shim.so: tests/vtime/shim.c tests/vtime/page.h
	@mkdir -p $(@D)
	$(CC) -std=c17 -D_GNU_SOURCE -O1 -g -fPIC -shared -Wall -Wextra -o $@ $<

# Estimator and governor over a population of boards drawn at random, in one process.
POPULATION := $(addprefix $(B)/tests/population/,population.o loop.o boards.o) $(B)/tests/sim/sim.o
$(B)/tests/population/population: $(POPULATION) $(GOVERNOR) $(ESTIMATOR) $(COMMON)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -lm

# The daemon over the same population, in virtual time.
POPULATION_DAEMON := $(addprefix $(B)/tests/population/,daemon.o flamed.o stage.o loop.o boards.o figures.o) \
	$(addprefix $(B)/tests/vtime/,client.o plant.o world.o) $(B)/tests/sim/sim.o
$(B)/tests/population/daemon: $(POPULATION_DAEMON) $(GOVERNOR) $(ESTIMATOR) $(COMMON)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -lm

# The daemon with streams of tokens.
POPULATION_STREAMS := $(addprefix $(B)/tests/population/,streams.o conversation.o) \
	$(filter-out $(B)/tests/population/daemon.o,$(POPULATION_DAEMON))
bench-programs: $(B)/tests/population/streams
$(B)/tests/population/streams: $(POPULATION_STREAMS) $(GOVERNOR) $(ESTIMATOR) $(COMMON)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -lm

# The daemon compared with other policies for the clocks (docs/compare.md).
RIVALS := $(patsubst %.c,$(B)/%.o,$(wildcard tests/rivals/*.c)) \
	$(filter-out $(B)/tests/population/daemon.o,$(POPULATION_DAEMON))
bench-programs: $(B)/tests/rivals/rivals
$(B)/tests/rivals/rivals: $(RIVALS) $(GOVERNOR) $(ESTIMATOR) $(COMMON)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -lm

# Arithmetic by the billion, too: tests run the release build's of these.
ifndef SANITIZE
test-programs: $(addprefix $(B)/tests/,population/daemon population/streams rivals/rivals)
endif
