# The CUDA layer, a private library that `flamectl run` preloads. Linked with nothing of CUDA's.
CUDA_LAYER := $(B)/libflamed-cuda.so
CUDA_LAYER_OBJS := $(call room,layers/cuda) $(LAYER_CORE) $(LIB_OBJS)
ALL += $(CUDA_LAYER)
# Entry points are written in assembler, or named by it: the compiler must not see all files as one. Ubuntu's and
# Fedora's flags for packages ask for that.
$(call room,layers/cuda): override CFLAGS += -fno-lto

$(CUDA_LAYER): $(CUDA_LAYER_OBJS) layers/cuda/layer.map
	$(CC) -shared -Wl,--version-script,layers/cuda/layer.map $(if $(SANITIZE),,-Wl$(comma)-z$(comma)defs) \
		$(ALL_LDFLAGS) -o $@ $(CUDA_LAYER_OBJS) -lpthread -lm

# CUPTI, loaded by the layer on request; not linked with CUDA either.
CUPTI_LIBRARY := $(B)/libflamed-cupti.so
ALL += $(CUPTI_LIBRARY)

$(CUPTI_LIBRARY): $(call room,layers/cuda/cupti)
	$(CC) -shared $(if $(SANITIZE),,-Wl$(comma)-z$(comma)defs) $(ALL_LDFLAGS) -o $@ $^ -ldl -lpthread

install:: $(CUDA_LAYER) $(CUPTI_LIBRARY)
	$(INSTALL) -d $(DESTDIR)$(PRIVLIBDIR)
	$(INSTALL) -m 755 $(CUDA_LAYER) $(DESTDIR)$(PRIVLIBDIR)/libflamed-cuda.so
	$(INSTALL) -m 755 $(CUPTI_LIBRARY) $(DESTDIR)$(PRIVLIBDIR)/libflamed-cupti.so

uninstall::
	rm -f $(DESTDIR)$(PRIVLIBDIR)/libflamed-cuda.so $(DESTDIR)$(PRIVLIBDIR)/libflamed-cupti.so
