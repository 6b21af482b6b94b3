# libflamed.so.0, flamectl, their headers, completion and the Python binding.
LIBFLAMED := $(B)/libflamed.so.0
LIB_SOURCES := client/handle.c client/libflamed.c client/libprofile.c client/wire.c
LIB_OBJS := $(LIB_SOURCES:%.c=$(B)/%.o) $(B)/common/kv.o $(B)/common/units.o $(B)/common/clock.o $(B)/common/point.o
CTL_OBJS := $(call room,client,client/example.c)
FLAMECTL := $(B)/flamectl
ALL += $(LIBFLAMED) $(B)/libflamed.so $(FLAMECTL) $(B)/flamed.pc

$(LIBFLAMED): $(LIB_OBJS) client/libflamed.map
	$(CC) -shared -Wl,-soname,libflamed.so.0 -Wl,--version-script,client/libflamed.map $(if $(SANITIZE),,-Wl$(comma)-z$(comma)defs) $(ALL_LDFLAGS) \
		-o $@ $(LIB_OBJS) -lpthread -lm

$(B)/libflamed.so: $(LIBFLAMED)
	ln -sf libflamed.so.0 $@

$(FLAMECTL): $(CTL_OBJS) $(ESTIMATOR) $(COMMON)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(INIH_LIBS) -lpthread -lm

$(B)/flamed.pc: client/flamed.pc.in Makefile
	@mkdir -p $(@D)
	sed -e 's#@PREFIX@#$(PREFIX)#' -e 's#@LIBDIR@#$(LIBDIR)#' -e 's#@INCLUDEDIR@#$(INCLUDEDIR)#' -e 's#@VERSION@#$(VERSION)#' $< >$@

install::
	$(INSTALL) -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(INCLUDEDIR) $(DESTDIR)$(DATADIR)/bash-completion/completions \
		$(DESTDIR)$(DATADIR)/flamed
	$(INSTALL) -m 755 $(FLAMECTL) $(DESTDIR)$(BINDIR)/flamectl
	$(INSTALL) -m 755 $(LIBFLAMED) $(DESTDIR)$(LIBDIR)/libflamed.so.0
	ln -sf libflamed.so.0 $(DESTDIR)$(LIBDIR)/libflamed.so
	$(INSTALL) -m 644 $(B)/flamed.pc $(DESTDIR)$(LIBDIR)/pkgconfig/libflamed.pc
	$(INSTALL) -m 644 client/flamed.h $(DESTDIR)$(INCLUDEDIR)/flamed.h
	$(INSTALL) -m 644 client/completion/flamectl $(DESTDIR)$(DATADIR)/bash-completion/completions/flamectl
	$(INSTALL) -m 644 client/python/flamed.py client/example.c $(DESTDIR)$(DATADIR)/flamed/

uninstall::
	rm -f $(DESTDIR)$(BINDIR)/flamectl $(DESTDIR)$(LIBDIR)/libflamed.so.0 $(DESTDIR)$(LIBDIR)/libflamed.so $(DESTDIR)$(INCLUDEDIR)/flamed.h \
		$(DESTDIR)$(LIBDIR)/pkgconfig/libflamed.pc $(DESTDIR)$(DATADIR)/bash-completion/completions/flamectl
	rm -rf $(DESTDIR)$(DATADIR)/flamed

# What tests/client drives the library with.
EXERCISE := $(B)/tests/client/exercise
TEST_PROGRAMS += $(EXERCISE)
$(B)/tests/client/exercise.o: ALL_CFLAGS += -Iclient
$(EXERCISE): $(B)/tests/client/exercise.o $(B)/libflamed.so
	$(CC) $(ALL_LDFLAGS) -o $@ $< -L$(B) -lflamed -Wl,-rpath,'$$ORIGIN/../..' -lpthread
