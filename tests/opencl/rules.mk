# Programs, a layer and an ICD that the OpenCL tests need.
OPENCL_TESTS := $(addprefix $(B)/tests/opencl/,engine libbelow.so libemptyicd.so)
test-programs: $(OPENCL_TESTS)
bench-programs: $(B)/tests/opencl/engine

$(B)/tests/opencl/engine: $(B)/tests/opencl/engine.o
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -lOpenCL -lpthread

$(B)/tests/opencl/lib%.so: $(B)/tests/opencl/%.o
	$(CC) -shared $(ALL_LDFLAGS) -o $@ $^
