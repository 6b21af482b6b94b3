# The layer for engines that compute on the CPU, preloaded by flamectl run.
ENGINES_LAYER := $(B)/libflamed-engines.so
ENGINES_OBJS := $(addprefix $(B)/layers/engines/,engines.o llama.o onnxruntime.o) $(LAYER_CORE) $(LIB_OBJS)
ALL += $(ENGINES_LAYER)

$(ENGINES_LAYER): $(ENGINES_OBJS) layers/engines/layer.map
	$(CC) -shared -Wl,--version-script,layers/engines/layer.map $(if $(SANITIZE),,-Wl$(comma)-z$(comma)defs) \
		$(ALL_LDFLAGS) -o $@ $(ENGINES_OBJS) -lpthread -lm

install:: $(ENGINES_LAYER)
	$(INSTALL) -d $(DESTDIR)$(PRIVLIBDIR)
	$(INSTALL) -m 755 $(ENGINES_LAYER) $(DESTDIR)$(PRIVLIBDIR)/libflamed-engines.so

uninstall::
	rm -f $(DESTDIR)$(PRIVLIBDIR)/libflamed-engines.so

# The GStreamer tracer, a plugin; left out where GStreamer's headers are not there.
GST_CFLAGS := $(patsubst -I%,-isystem %,$(shell $(PKG_CONFIG) --cflags gstreamer-1.0 2>/dev/null))
GST_TRACER := $(B)/gstreamer-1.0/libgstflamed.so
ifneq ($(GST_CFLAGS),)
GST_OWN := $(addprefix $(B)/layers/engines/,gstreamer.o gstreamer_busiest.o)
GST_OBJS := $(GST_OWN) $(LAYER_CORE) $(LIB_OBJS)
ALL += $(GST_TRACER)

$(GST_OWN): ALL_CFLAGS += $(GST_CFLAGS) -Wno-error=conversion

$(GST_TRACER): $(GST_OBJS)
	@mkdir -p $(@D)
	$(CC) -shared $(if $(SANITIZE),,-Wl$(comma)-z$(comma)defs) $(ALL_LDFLAGS) -o $@ $(GST_OBJS) \
		$(shell $(PKG_CONFIG) --libs gstreamer-1.0) -lpthread -lm

install:: $(GST_TRACER)
	$(INSTALL) -d $(DESTDIR)$(GST_PLUGINSDIR)
	$(INSTALL) -m 755 $(GST_TRACER) $(DESTDIR)$(GST_PLUGINSDIR)/libgstflamed.so

uninstall::
	rm -f $(DESTDIR)$(GST_PLUGINSDIR)/libgstflamed.so
endif
