# Test programs other than tests/unit: each adds itself to TEST_PROGRAMS.
TEST_PROGRAMS ?=
.PHONY: test-programs unit
test-programs: $(TEST_PROGRAMS)
