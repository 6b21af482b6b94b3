# The board in a directory. Its files come along beside the program.
BOARD_FILES := $(patsubst board/%.ini,$(B)/boards/%.ini,$(wildcard board/*.ini))
BOARD := $(addprefix $(B)/board/,animate.o device.o page.o power.o spec.o tree.o)
ALL += $(B)/flamed-board $(BOARD_FILES)

$(B)/board/flamed-board.o: BASE += -DDATADIR='"$(DATADIR)"'

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
LAYER_BOARD_OBJS := $(addprefix $(B)/board/,layer.o layer_event.o waits.o calibration.o cost.o lane.o page.o) $(COMMON)
ALL += $(LAYER_BOARD)
TEST_PROGRAMS += $(B)/tests/board/cl_program

$(LAYER_BOARD): $(LAYER_BOARD_OBJS)
	$(CC) -shared $(if $(SANITIZE),,-Wl$(comma)-z$(comma)defs) $(ALL_LDFLAGS) -o $@ $^ -lpthread -lm

$(B)/tests/board/cl_program: $(B)/tests/board/cl_program.o
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -lOpenCL

$(B)/flamed-board: $(B)/board/flamed-board.o $(BOARD) $(COMMON)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(INIH_LIBS) -lm

install:: $(B)/flamed-board $(LAYER_BOARD)
	$(INSTALL) -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(DATADIR)/flamed/boards $(DESTDIR)$(PRIVLIBDIR)
	$(INSTALL) $(LAYER_BOARD) $(DESTDIR)$(PRIVLIBDIR)
	$(INSTALL) $(B)/flamed-board $(DESTDIR)$(BINDIR)
	$(INSTALL) -m 644 board/*.ini $(DESTDIR)$(DATADIR)/flamed/boards

uninstall::
	rm -f $(DESTDIR)$(BINDIR)/flamed-board $(DESTDIR)$(PRIVLIBDIR)/libflamed-board-opencl.so
	rm -rf $(DESTDIR)$(DATADIR)/flamed/boards
