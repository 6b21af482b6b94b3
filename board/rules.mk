# The board in a directory. Its files come along beside the program.
BOARD_FILES := $(patsubst board/%.ini,$(B)/boards/%.ini,$(wildcard board/*.ini))
BOARD := $(addprefix $(B)/board/,animate.o clock_device.o page.o power.o spec.o tree.o)
ALL += $(B)/flamed-board $(BOARD_FILES)

$(B)/boards/%.ini: board/%.ini
	@mkdir -p $(@D)
	cp $< $@

# The workload that comes with it, for the demo.
WORKLOAD := $(addprefix $(B)/board/,workload.o cost.o lane.o page.o queue.o queue_opencl.o)
ALL += $(B)/flamed-workload

$(B)/flamed-workload: $(WORKLOAD) $(COMMON) $(B)/libflamed.so
	$(CC) $(ALL_LDFLAGS) -o $@ $(WORKLOAD) $(COMMON) -L$(B) -lflamed -Wl,-rpath,'$$ORIGIN' -lOpenCL -lpthread -lm

# The layer that makes any OpenCL program feel the board's clocks.
LAYER_BOARD := $(B)/libflamed-board-opencl.so
LAYER_BOARD_OBJS := $(addprefix $(B)/board/,layer.o layer_event.o slower.o waits.o calibration.o cost.o lane.o page.o) \
	$(COMMON)
ALL += $(LAYER_BOARD)
TEST_PROGRAMS += $(B)/tests/board/cl_program

$(LAYER_BOARD): $(LAYER_BOARD_OBJS)
	$(CC) -shared $(if $(SANITIZE),,-Wl$(comma)-z$(comma)defs) $(ALL_LDFLAGS) -o $@ $^ -lpthread -lm

# The same for Vulkan: VK_INSTANCE_LAYERS=VK_LAYER_FLAMED_board.
BOARD_VULKAN := $(B)/libflamed-board-vulkan.so
BOARD_VULKAN_MANIFEST := share/vulkan/explicit_layer.d/flamed-board-vulkan.json
BOARD_VULKAN_OBJS := $(call room,board/vulkan) \
	$(addprefix $(B)/board/,slower.o waits.o calibration.o cost.o lane.o page.o) $(COMMON)
ALL += $(BOARD_VULKAN) $(B)/$(BOARD_VULKAN_MANIFEST)

$(BOARD_VULKAN): $(BOARD_VULKAN_OBJS)
	$(CC) -shared -Wl,-z,nodelete $(if $(SANITIZE),,-Wl$(comma)-z$(comma)defs) $(ALL_LDFLAGS) -o $@ $^ -lpthread -lm

$(B)/$(BOARD_VULKAN_MANIFEST): board/vulkan/flamed-board-vulkan.json.in
	@mkdir -p $(@D)
	sed 's|@LIBRARY@|../../../libflamed-board-vulkan.so|' $< >$@

install:: $(BOARD_VULKAN)
	$(INSTALL) -d $(DESTDIR)$(PRIVLIBDIR) $(DESTDIR)$(DATADIR)/vulkan/explicit_layer.d
	$(INSTALL) $(BOARD_VULKAN) $(DESTDIR)$(PRIVLIBDIR)
	sed 's|@LIBRARY@|$(PRIVLIBDIR)/libflamed-board-vulkan.so|' board/vulkan/flamed-board-vulkan.json.in \
		>$(DESTDIR)$(DATADIR)/vulkan/explicit_layer.d/flamed-board-vulkan.json
	chmod 644 $(DESTDIR)$(DATADIR)/vulkan/explicit_layer.d/flamed-board-vulkan.json

uninstall::
	rm -f $(DESTDIR)$(PRIVLIBDIR)/libflamed-board-vulkan.so \
		$(DESTDIR)$(DATADIR)/vulkan/explicit_layer.d/flamed-board-vulkan.json

# The same for engines on the CPU, preloaded.
BOARD_ENGINES := $(B)/libflamed-board-engines.so
BOARD_ENGINES_OBJS := $(addprefix $(B)/board/,engines.o slower.o waits.o calibration.o cost.o lane.o page.o) $(COMMON)
ALL += $(BOARD_ENGINES)

$(BOARD_ENGINES): $(BOARD_ENGINES_OBJS)
	$(CC) -shared $(if $(SANITIZE),,-Wl$(comma)-z$(comma)defs) $(ALL_LDFLAGS) -o $@ $^ -lpthread -lm

$(B)/tests/board/cl_program: $(B)/tests/board/cl_program.o
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -lOpenCL

$(B)/flamed-board: $(B)/board/flamed-board.o $(BOARD) $(COMMON)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(INIH_LIBS) -lm

install:: $(B)/flamed-board $(LAYER_BOARD) $(BOARD_ENGINES)
	$(INSTALL) -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(DATADIR)/flamed/boards $(DESTDIR)$(PRIVLIBDIR)
	$(INSTALL) $(LAYER_BOARD) $(BOARD_ENGINES) $(DESTDIR)$(PRIVLIBDIR)
	$(INSTALL) $(B)/flamed-board $(DESTDIR)$(BINDIR)
	$(INSTALL) -m 644 board/*.ini $(DESTDIR)$(DATADIR)/flamed/boards

uninstall::
	rm -f $(DESTDIR)$(BINDIR)/flamed-board \
		$(addprefix $(DESTDIR)$(PRIVLIBDIR)/,$(notdir $(LAYER_BOARD) $(BOARD_ENGINES)))
	rm -rf $(DESTDIR)$(DATADIR)/flamed/boards
