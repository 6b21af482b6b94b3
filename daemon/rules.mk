# flamed-keeper, and what flamed shares with it: --restore and the first message.
RESTORE_OBJS := $(addprefix $(B)/daemon/,keeper_restore.o journal.o journal_parse.o knob.o keeper_hello.o)
KEEPER_OBJS := $(addprefix $(B)/daemon/,keeper_main.o keeper.o keeper_apply.o keeper_table.o uevent.o)
ALL += $(B)/flamed-keeper

$(B)/flamed-keeper: $(KEEPER_OBJS) $(RESTORE_OBJS) $(PROBES) $(COMMON)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(INIH_LIBS) -lm

FLAMED_OBJS := $(addprefix $(B)/daemon/,main.o clocks.o config.o keeper_link.o keys.o library.o loop.o notify.o profile.o query.o server.o session.o tally.o)
ALL += $(B)/flamed

$(B)/flamed: $(FLAMED_OBJS) $(RESTORE_OBJS) $(GOVERNOR) $(ESTIMATOR) $(PROBES) $(COMMON)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(EVENT_LIBS) $(SYSTEMD_LIBS) $(INIH_LIBS) -lm

install:: $(B)/flamed
	$(INSTALL) -d $(DESTDIR)$(SBINDIR)
	$(INSTALL) -m 755 $(B)/flamed $(DESTDIR)$(SBINDIR)

uninstall::
	rm -f $(DESTDIR)$(SBINDIR)/flamed

install:: $(B)/flamed-keeper
	$(INSTALL) -d $(DESTDIR)$(LIBEXECDIR)
	$(INSTALL) -m 755 $(B)/flamed-keeper $(DESTDIR)$(LIBEXECDIR)

uninstall::
	rm -f $(DESTDIR)$(LIBEXECDIR)/flamed-keeper

$(B)/tests/unit/test_journal: $(RESTORE_OBJS)
$(B)/tests/unit/test_uevent: $(B)/daemon/uevent.o
