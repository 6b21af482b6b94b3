# flamed-exporter: the metrics over HTTP.
EXPORTER_OBJS := $(call room,exporter) $(B)/lib/scrape.o $(B)/lib/wire.o
EXPORTER_LIBS = $(shell $(PKG_CONFIG) --libs libevent_core libevent_extra)
ALL += $(B)/flamed-exporter

$(B)/flamed-exporter: $(EXPORTER_OBJS) $(COMMON)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(EXPORTER_LIBS) $(SYSTEMD_LIBS) -lm

install:: $(B)/flamed-exporter
	$(INSTALL) -d $(DESTDIR)$(BINDIR)
	$(INSTALL) -m 755 $(B)/flamed-exporter $(DESTDIR)$(BINDIR)/flamed-exporter

uninstall::
	rm -f $(DESTDIR)$(BINDIR)/flamed-exporter
