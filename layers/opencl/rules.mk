# The OpenCL layer, a private library that an ICD loader loads by OPENCL_LAYERS.
LAYER := $(B)/libflamed-opencl.so
LAYER_OBJS := $(patsubst %,$(B)/layers/%.o,opencl/layer opencl/dispatch opencl/handles opencl/record) \
	$(LAYER_CORE) $(LIB_OBJS)
ALL += $(LAYER)

$(LAYER): $(LAYER_OBJS) layers/opencl/layer.map
	$(CC) -shared -Wl,--version-script,layers/opencl/layer.map $(if $(SANITIZE),,-Wl$(comma)-z$(comma)defs) \
		$(ALL_LDFLAGS) -o $@ $(LAYER_OBJS) -lpthread -lm

install:: $(LAYER)
	$(INSTALL) -d $(DESTDIR)$(PRIVLIBDIR)
	$(INSTALL) -m 755 $(LAYER) $(DESTDIR)$(PRIVLIBDIR)/libflamed-opencl.so

uninstall::
	rm -f $(DESTDIR)$(PRIVLIBDIR)/libflamed-opencl.so

# The probe: the only installed program that calls OpenCL itself.
PROBE_OBJS := $(patsubst %,$(B)/layers/opencl/%.o,flamed-probe work) $(LIB_OBJS)
ALL += $(B)/flamed-probe

$(B)/flamed-probe: $(PROBE_OBJS)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -lOpenCL -lpthread -lm

install:: $(B)/flamed-probe
	$(INSTALL) -d $(DESTDIR)$(BINDIR)
	$(INSTALL) -m 755 $(B)/flamed-probe $(DESTDIR)$(BINDIR)/flamed-probe

uninstall::
	rm -f $(DESTDIR)$(BINDIR)/flamed-probe
