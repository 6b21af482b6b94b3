# Objects that every layer is linked with. Its tests are linked like those of the pure rooms.
$(B)/tests/unit/test_boundary: $(B)/layers/core/boundary.o
$(B)/tests/unit/test_tokens: $(B)/layers/core/tokens.o
$(B)/tests/unit/test_stream: $(LAYER_CORE) $(filter-out $(COMMON),$(LIB_OBJS))
$(B)/tests/unit/test_stream: ALL_LDFLAGS += $(addprefix -Wl$(comma)--wrap=,session_begin session_end session_cancel)
