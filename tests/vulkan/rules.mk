# A Vulkan program, and a layer below flamed's, for the tests.
VULKAN_TESTS := $(addprefix $(B)/tests/vulkan/,engine libbelow.so)
test-programs: $(VULKAN_TESTS)

$(B)/tests/vulkan/engine: $(addprefix $(B)/tests/vulkan/,engine.o setup.o)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -lvulkan -lpthread

$(B)/tests/vulkan/libbelow.so: $(B)/tests/vulkan/below.o
	$(CC) -shared $(ALL_LDFLAGS) -o $@ $^
