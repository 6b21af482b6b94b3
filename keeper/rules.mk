# flamed-keeper, and the code that flamed shares with it: --restore and the first message.
RESTORE_OBJS := $(addprefix $(B)/keeper/,restore.o journal.o journal_parse.o knob.o nvml.o hold.o hello.o)
KEEPER_OBJS := $(addprefix $(B)/keeper/,main.o keeper.o apply.o table.o uevent.o owner.o)
ALL += $(B)/flamed-keeper

$(B)/flamed-keeper: $(KEEPER_OBJS) $(RESTORE_OBJS) $(PROBES) $(COMMON)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(INIH_LIBS) -lm

install:: $(B)/flamed-keeper
	$(INSTALL) -d $(DESTDIR)$(LIBEXECDIR)
	$(INSTALL) -m 755 $(B)/flamed-keeper $(DESTDIR)$(LIBEXECDIR)

uninstall::
	rm -f $(DESTDIR)$(LIBEXECDIR)/flamed-keeper

$(B)/tests/unit/test_journal: $(RESTORE_OBJS)
$(B)/tests/unit/test_uevent: $(B)/keeper/uevent.o
