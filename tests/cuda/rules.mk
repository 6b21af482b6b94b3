# A driver that stands in for NVIDIA's, and a program that comes by it as the CUDA runtime does. Never installed.
STANDIN := $(B)/tests/cuda/libcuda.so.1
STANDIN_CUPTI := $(B)/tests/cuda/libcupti.so.12
CUDA_TESTS := $(STANDIN) $(STANDIN_CUPTI) $(B)/tests/cuda/engine $(B)/tests/cuda/engine-linked \
	$(B)/tests/cuda/cupti-start
test-programs: $(CUDA_TESTS)
bench-programs: $(CUDA_TESTS)

STANDIN_OBJS := $(addprefix $(B)/tests/cuda/,standin_module.o standin_memory.o standin_stream.o standin_event.o \
	standin_graph.o) \
	$(addprefix $(B)/board/,lane.o cost.o page.o waits.o) $(COMMON)
$(STANDIN): $(STANDIN_OBJS)
	$(CC) -shared -Wl,-soname,libcuda.so.1 -Wl,-Bsymbolic $(ALL_LDFLAGS) -o $@ $^ -lpthread -lm

$(STANDIN_CUPTI): $(B)/tests/cuda/standin_cupti.o $(STANDIN)
	$(CC) -shared -Wl,-soname,libcupti.so.12 -Wl,-Bsymbolic $(ALL_LDFLAGS) -o $@ $^ -lpthread

$(B)/tests/cuda/cupti-start: $(B)/tests/cuda/cupti_start.o $(B)/layers/cuda/cupti/access.o
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -ldl

$(B)/tests/cuda/engine: $(B)/tests/cuda/engine.o $(B)/tests/cuda/script.o
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -ldl -lpthread

# The same program, linked with the driver.
$(B)/tests/cuda/linked.o: tests/cuda/engine.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -DLINKED -c -o $@ $<

$(B)/tests/cuda/engine-linked: $(B)/tests/cuda/linked.o $(B)/tests/cuda/script.o $(STANDIN)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -ldl -lpthread

# With NVTX ranges, by the genuine headers where a CUDA toolkit has them.
NVTX_HEADERS := $(wildcard /usr/local/cuda/include/nvtx3/nvToolsExt.h /usr/include/nvtx3/nvToolsExt.h)
CUDA_INCLUDE := $(patsubst %/nvtx3/nvToolsExt.h,%,$(firstword $(NVTX_HEADERS)))
ifneq ($(CUDA_INCLUDE),)
test-programs: $(B)/tests/cuda/engine-nvtx
$(B)/tests/cuda/nvtx.o: tests/cuda/engine.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -DNVTX -isystem $(CUDA_INCLUDE) -c -o $@ $<

$(B)/tests/cuda/engine-nvtx: $(B)/tests/cuda/nvtx.o $(B)/tests/cuda/script.o
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -ldl -lpthread
endif
