# A driver that stands in for NVIDIA's, and a program that loads it as the CUDA runtime does. Never installed.
STANDIN := $(B)/tests/cuda/libcuda.so.1
STANDIN_CUPTI := $(B)/tests/cuda/libcupti.so.12
MIRROR := $(B)/tests/cuda/mirror/libcuda.so.1
CUDA_TESTS := $(STANDIN) $(STANDIN_CUPTI) $(B)/tests/cuda/engine $(B)/tests/cuda/engine-linked \
	$(B)/tests/cuda/cupti-start $(MIRROR) $(B)/tests/cuda/entries $(B)/tests/cuda/next.so \
	$(B)/tests/cuda/lockwatch.so $(B)/tests/cuda/nvrtc
test-programs: $(CUDA_TESTS)
bench-programs: $(CUDA_TESTS)

STANDIN_OBJS := $(addprefix $(B)/tests/cuda/,standin_module.o standin_memory.o standin_stream.o standin_event.o \
	standin_graph.o) \
	$(addprefix $(B)/board/,lane.o cost.o page.o waits.o) $(COMMON)
$(STANDIN): $(STANDIN_OBJS)
	$(CC) -shared -Wl,-soname,libcuda.so.1 -Wl,-Bsymbolic $(ALL_LDFLAGS) -o $@ $^ -lpthread -lm

# On a machine with a GPU: builds only the programs that the script runs, so that no package for tests is needed.
.PHONY: on-gpu
on-gpu: $(CUDA_LAYER) $(CUPTI_LIBRARY) $(B)/flamectl $(B)/tests/cuda/engine $(B)/tests/cuda/nvrtc
	tests/cuda/on-gpu.sh

# The same without entry points that older drivers lack.
OLD_STANDINS := $(B)/tests/cuda/before-12.3/libcuda.so.1 $(B)/tests/cuda/before-11.3/libcuda.so.1
test-programs: $(OLD_STANDINS)
$(OLD_STANDINS): $(B)/tests/cuda/%/libcuda.so.1: $(STANDIN_OBJS) tests/cuda/%.map
	@mkdir -p $(@D)
	$(CC) -shared -Wl,-soname,libcuda.so.1 -Wl,-Bsymbolic -Wl,--version-script,tests/cuda/$*.map $(ALL_LDFLAGS) \
		-o $@ $(STANDIN_OBJS) -lpthread -lm

$(STANDIN_CUPTI): $(B)/tests/cuda/standin_cupti.o $(STANDIN)
	$(CC) -shared -Wl,-soname,libcupti.so.12 -Wl,-Bsymbolic $(ALL_LDFLAGS) -o $@ $^ -lpthread

# A driver that records its calls, the program that makes them, and libraries that are preloaded beside the layer.
$(MIRROR): $(B)/tests/cuda/mirror.o
	@mkdir -p $(@D)
	$(CC) -shared -Wl,-soname,libcuda.so.1 -Wl,-Bsymbolic $(ALL_LDFLAGS) -o $@ $^

$(B)/tests/cuda/entries $(B)/tests/cuda/nvrtc: $(B)/tests/cuda/%: $(B)/tests/cuda/%.o
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -ldl

$(B)/tests/cuda/next.so $(B)/tests/cuda/lockwatch.so: $(B)/tests/cuda/%.so: $(B)/tests/cuda/%.o
	$(CC) -shared $(ALL_LDFLAGS) -o $@ $^ -ldl

$(B)/tests/cuda/cupti-start: $(B)/tests/cuda/cupti_start.o $(B)/layers/cuda/cupti/access.o
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -ldl

ENGINE := $(addprefix $(B)/tests/cuda/,script.o image.o copies.o)
$(B)/tests/cuda/engine: $(B)/tests/cuda/engine.o $(B)/tests/cuda/ranges.o $(ENGINE)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -ldl -lpthread

# The same program, linked with the driver.
$(B)/tests/cuda/linked.o: tests/cuda/engine.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -DLINKED -c -o $@ $<

$(B)/tests/cuda/engine-linked: $(B)/tests/cuda/linked.o $(B)/tests/cuda/ranges.o $(ENGINE) $(STANDIN)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -ldl -lpthread

# With NVTX ranges, by the genuine headers where a CUDA toolkit has them.
NVTX_HEADERS := $(wildcard /usr/local/cuda/include/nvtx3/nvToolsExt.h /usr/include/nvtx3/nvToolsExt.h)
CUDA_INCLUDE := $(patsubst %/nvtx3/nvToolsExt.h,%,$(firstword $(NVTX_HEADERS)))
ifneq ($(CUDA_INCLUDE),)
test-programs: $(B)/tests/cuda/engine-nvtx
$(B)/tests/cuda/nvtx.o: tests/cuda/ranges.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -DNVTX -isystem $(CUDA_INCLUDE) -c -o $@ $<

$(B)/tests/cuda/engine-nvtx: $(B)/tests/cuda/engine.o $(B)/tests/cuda/nvtx.o $(ENGINE)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -ldl -lpthread
endif
