# flamed. It links the keeper's restore for --restore.
FLAMED_OBJS := $(call room,daemon)
ALL += $(B)/flamed

$(B)/flamed: $(FLAMED_OBJS) $(RESTORE_OBJS) $(GOVERNOR) $(ESTIMATOR) $(PROBES) $(COMMON)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(EVENT_LIBS) $(SYSTEMD_LIBS) $(INIH_LIBS) -lm

install:: $(B)/flamed
	$(INSTALL) -d $(DESTDIR)$(SBINDIR)
	$(INSTALL) -m 755 $(B)/flamed $(DESTDIR)$(SBINDIR)

uninstall::
	rm -f $(DESTDIR)$(SBINDIR)/flamed

$(B)/tests/unit/test_schedule: $(B)/daemon/schedule.o
$(B)/tests/unit/test_sandbox: $(B)/daemon/sandbox.o
$(B)/tests/unit/test_user: $(B)/daemon/user.o
LIBRARY_TESTS := $(addprefix $(B)/tests/unit/,test_memory test_company)
$(LIBRARY_TESTS): $(filter-out $(B)/daemon/main.o,$(FLAMED_OBJS)) $(B)/keeper/hello.o
$(LIBRARY_TESTS): INIH_LIBS += $(EVENT_LIBS) $(SYSTEMD_LIBS)
