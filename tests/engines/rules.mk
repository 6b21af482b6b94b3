# A stand-in for an engine, and a program that loads it privately: as released, since the layer is preloaded into them.
# Two copies of one whose steps are waited for are two builds in one process.
ENGINE_ADDONS := $(addprefix $(B)/tests/engines/,libaddon.so libstrange.so libwaits1.so \
	libwaits2.so)
test-programs: $(ENGINE_ADDONS) $(B)/tests/engines/program

# Calls inside the add-on go through its table of procedures, where the layer comes first.
$(ENGINE_ADDONS):
	$(CC) -shared -fsemantic-interposition $(ALL_LDFLAGS) -o $@ $^ -lpthread
$(B)/tests/engines/libaddon.so: $(B)/tests/engines/engine.o
$(B)/tests/engines/libstrange.so: $(B)/tests/engines/engine-strange.o
$(B)/tests/engines/libwaits1.so $(B)/tests/engines/libwaits2.so: $(B)/tests/engines/engine-waits.o
$(B)/tests/engines/program: $(B)/tests/engines/program.o
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -lpthread
$(addprefix $(B)/tests/engines/,engine.o engine-strange.o engine-waits.o): ALL_CFLAGS += -fsemantic-interposition
$(B)/tests/engines/engine-strange.o: ALL_CFLAGS += -DSTRANGE
$(B)/tests/engines/engine-waits.o: ALL_CFLAGS += -DWAITS
$(B)/tests/engines/engine-strange.o $(B)/tests/engines/engine-waits.o: tests/engines/engine.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<
