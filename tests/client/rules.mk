# libflamed on a clock of the test's, against a daemon in the same process.
CALLS := $(B)/tests/client/calls.o $(filter-out $(B)/common/clock.o,$(LIB_OBJS))
test-programs: $(B)/tests/client/calls
$(B)/tests/client/calls: $(CALLS)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -lpthread -lm
