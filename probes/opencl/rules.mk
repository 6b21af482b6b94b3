# The OpenCL layer, a private library that an ICD loader loads by OPENCL_LAYERS.
LAYER := $(B)/libflamed-opencl.so
LAYER_OBJS := $(patsubst %,$(B)/probes/opencl/%.o,layer dispatch handles record boundary session summary) \
	$(patsubst %,$(B)/%.o,client/handle client/libflamed client/libprofile client/wire common/kv common/units common/clock common/point)
ALL += $(LAYER)

$(LAYER): $(LAYER_OBJS) probes/opencl/layer.map
	$(CC) -shared -Wl,--version-script,probes/opencl/layer.map $(if $(SANITIZE),,-Wl$(comma)-z$(comma)defs) $(ALL_LDFLAGS) -o $@ $(LAYER_OBJS) \
		-lpthread -lm

install:: $(LAYER)
	$(INSTALL) -d $(DESTDIR)$(PRIVLIBDIR)
	$(INSTALL) -m 755 $(LAYER) $(DESTDIR)$(PRIVLIBDIR)/libflamed-opencl.so

uninstall::
	rm -f $(DESTDIR)$(PRIVLIBDIR)/libflamed-opencl.so

# The pure part is tested like the pure rooms.
$(B)/tests/unit/test_boundary: $(B)/probes/opencl/boundary.o

# The probe: the one program of ours that calls OpenCL itself.
PROBE_OBJS := $(patsubst %,$(B)/probes/opencl/%.o,flamed-probe work) \
	$(patsubst %,$(B)/%.o,client/handle client/libflamed client/libprofile client/wire common/kv common/units common/clock common/point)
ALL += $(B)/flamed-probe

$(B)/flamed-probe: $(PROBE_OBJS)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ -lOpenCL -lpthread -lm

install:: $(B)/flamed-probe
	$(INSTALL) -d $(DESTDIR)$(BINDIR)
	$(INSTALL) -m 755 $(B)/flamed-probe $(DESTDIR)$(BINDIR)/flamed-probe

uninstall::
	rm -f $(DESTDIR)$(BINDIR)/flamed-probe
