# flamectl and its completion. It is a client like any other: it links the library's objects.
CTL_OBJS := $(call room,ctl)
FLAMECTL := $(B)/flamectl
ALL += $(FLAMECTL)

$(FLAMECTL): $(CTL_OBJS) $(B)/layers/core/boundary.o $(B)/layers/cuda/cupti/access.o $(LIB_OBJS) \
		 $(B)/lib/scrape.o $(ESTIMATOR) $(filter-out $(LIB_OBJS),$(COMMON))
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(INIH_LIBS) $(NCURSES_LIBS) $(SQLITE_LIBS) $(JANSSON_LIBS) -lpthread -lm

install::
	$(INSTALL) -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(DATADIR)/bash-completion/completions
	$(INSTALL) -m 755 $(FLAMECTL) $(DESTDIR)$(BINDIR)/flamectl
	$(INSTALL) -m 644 ctl/completion/flamectl $(DESTDIR)$(DATADIR)/bash-completion/completions/flamectl

uninstall::
	rm -f $(DESTDIR)$(BINDIR)/flamectl $(DESTDIR)$(DATADIR)/bash-completion/completions/flamectl
