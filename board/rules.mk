# The board in a directory. Its files come along beside the program.
BOARD_FILES := $(patsubst board/%.ini,$(B)/boards/%.ini,$(wildcard board/*.ini))
BOARD := $(addprefix $(B)/board/,animate.o device.o page.o power.o spec.o tree.o)
ALL += $(B)/flamed-board $(BOARD_FILES)

$(B)/board/flamed-board.o: BASE += -DDATADIR='"$(DATADIR)"'

$(B)/boards/%.ini: board/%.ini
	@mkdir -p $(@D)
	cp $< $@

$(B)/flamed-board: $(B)/board/flamed-board.o $(BOARD) $(COMMON)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(INIH_LIBS) -lm

install:: $(B)/flamed-board
	$(INSTALL) -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(DATADIR)/flamed/boards
	$(INSTALL) $(B)/flamed-board $(DESTDIR)$(BINDIR)
	$(INSTALL) -m 644 board/*.ini $(DESTDIR)$(DATADIR)/flamed/boards

uninstall::
	rm -f $(DESTDIR)$(BINDIR)/flamed-board
	rm -rf $(DESTDIR)$(DATADIR)/flamed/boards
