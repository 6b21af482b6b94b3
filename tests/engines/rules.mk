# A stand-in for an engine, and a program that loads it privately: as released, since the layer is preloaded into them.
test-programs: $(B)/tests/engines/libaddon.so $(B)/tests/engines/program

# Calls inside the add-on go through its table of procedures, where the layer stands first.
$(B)/tests/engines/libaddon.so: $(B)/tests/engines/engine.o
	$(CC) -shared -fsemantic-interposition $(ALL_LDFLAGS) -o $@ $^
$(B)/tests/engines/program: $(B)/tests/engines/program.o
	$(CC) $(ALL_LDFLAGS) -o $@ $^
$(B)/tests/engines/engine.o: ALL_CFLAGS += -fsemantic-interposition
