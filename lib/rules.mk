# libflamed.so.0, its header, its Python binding and an example.
LIBFLAMED := $(B)/libflamed.so.0
# Objects that flamed's own client programs link instead of the shared library.
LIB_OBJS := $(patsubst %,$(B)/%.o,lib/handle lib/libflamed lib/libprofile lib/wire \
	common/kv common/units common/clock common/point)
ALL += $(LIBFLAMED) $(B)/libflamed.so $(B)/flamed.pc

$(LIBFLAMED): $(LIB_OBJS) lib/libflamed.map
	$(CC) -shared -Wl,-soname,libflamed.so.0 -Wl,--version-script,lib/libflamed.map \
		$(if $(SANITIZE),,-Wl$(comma)-z$(comma)defs) $(ALL_LDFLAGS) -o $@ $(LIB_OBJS) -lpthread -lm

$(B)/libflamed.so: $(LIBFLAMED)
	ln -sf libflamed.so.0 $@

$(B)/flamed.pc: lib/flamed.pc.in $(PATHS)
	@rm -f $@
	sed -e 's#@PREFIX@#$(PREFIX)#' -e 's#@LIBDIR@#$(LIBDIR)#' -e 's#@INCLUDEDIR@#$(INCLUDEDIR)#' \
		-e 's#@VERSION@#$(VERSION)#' $< >$@

# Where python3 looks below PREFIX.
PYTHONDIR ?= $(shell $(PYTHON) -c 'import site, sys; p = "$(PREFIX)/lib/"; \
	print(next((d for d in site.getsitepackages() if d.startswith(p)), \
	p + "python%d.%d/site-packages" % sys.version_info[:2]))' \
	2>/dev/null || echo $(PREFIX)/lib/python3/dist-packages)
PYTHON_FILES = $(patsubst lib/python/%,%,$(wildcard lib/python/flamed/*.py lib/python/flamed/py.typed))

install::
	$(INSTALL) -d $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(INCLUDEDIR) $(DESTDIR)$(DATADIR)/flamed
	$(INSTALL) -m 755 $(LIBFLAMED) $(DESTDIR)$(LIBDIR)/libflamed.so.0
	ln -sf libflamed.so.0 $(DESTDIR)$(LIBDIR)/libflamed.so
	$(INSTALL) -m 644 $(B)/flamed.pc $(DESTDIR)$(LIBDIR)/pkgconfig/libflamed.pc
	$(INSTALL) -m 644 lib/flamed.h lib/flamed.hpp $(DESTDIR)$(INCLUDEDIR)
	$(INSTALL) -m 644 lib/examples/example.c $(DESTDIR)$(DATADIR)/flamed/
	for file in $(PYTHON_FILES); do \
		$(INSTALL) -D -m 644 lib/python/$$file $(DESTDIR)$(PYTHONDIR)/$$file || exit; done

uninstall::
	rm -f $(DESTDIR)$(LIBDIR)/libflamed.so.0 $(DESTDIR)$(LIBDIR)/libflamed.so \
		$(DESTDIR)$(INCLUDEDIR)/flamed.h $(DESTDIR)$(INCLUDEDIR)/flamed.hpp \
		$(DESTDIR)$(LIBDIR)/pkgconfig/libflamed.pc
	rm -f $(DESTDIR)$(DATADIR)/flamed/example.c
	rm -rf $(DESTDIR)$(PYTHONDIR)/flamed

# The program with which tests/client drives the library.
EXERCISE := $(B)/tests/client/exercise
TEST_PROGRAMS += $(EXERCISE)
$(B)/tests/client/exercise.o: ALL_CFLAGS += -Ilib
$(EXERCISE): $(B)/tests/client/exercise.o $(B)/libflamed.so
	$(CC) $(ALL_LDFLAGS) -o $@ $< -L$(B) -lflamed -Wl,-rpath,'$$ORIGIN/../..' -lpthread
