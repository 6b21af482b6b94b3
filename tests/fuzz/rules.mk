# Fuzzers: tests/fuzz/fuzz_X.c -> tests/fuzz/fuzz_X. Of the rooms' archive the linker takes what one calls, so
# that code can move between files. tools/fuzz builds them, with clang.
FUZZ_ROOMS := $(COMMON) $(ESTIMATOR) $(PROBES) $(call room,daemon,daemon/main.c) $(call room,keeper,keeper/main.c)
FUZZERS := $(patsubst %.c,$(B)/%,$(wildcard tests/fuzz/fuzz_*.c))
.PHONY: fuzzers
fuzzers: $(FUZZERS)

$(B)/tests/fuzz/rooms.a: $(FUZZ_ROOMS)
	@mkdir -p $(@D)
	rm -f $@
	$(AR) rcs $@ $^

$(FUZZERS): $(B)/tests/fuzz/%: $(B)/tests/fuzz/%.o $(B)/tests/fuzz/rooms.a
	$(CC) $(ALL_LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(INIH_LIBS) -lm
