# The Vulkan layer, an implicit one: the loader finds it by its manifest and loads it only with FLAMED_VULKAN=1.
VULKAN_LAYER := $(B)/libflamed-vulkan.so
VULKAN_MANIFEST := share/vulkan/implicit_layer.d/flamed-vulkan.json
VULKAN_OBJS := $(call room,layers/vulkan) $(LAYER_CORE) $(LIB_OBJS)
ALL += $(VULKAN_LAYER) $(B)/$(VULKAN_MANIFEST)

# It stays loaded: threads and fork handlers of the program may still be inside when the loader lets go of it.
$(VULKAN_LAYER): $(VULKAN_OBJS) layers/vulkan/layer.map
	$(CC) -shared -Wl,--version-script,layers/vulkan/layer.map -Wl,-z,nodelete \
		$(if $(SANITIZE),,-Wl$(comma)-z$(comma)defs) $(ALL_LDFLAGS) -o $@ $(VULKAN_OBJS) -lpthread -lm

# The one in the build tree: XDG_DATA_DIRS=$(B)/share.
$(B)/$(VULKAN_MANIFEST): layers/vulkan/flamed-vulkan.json.in
	@mkdir -p $(@D)
	sed 's|@LIBRARY@|../../../libflamed-vulkan.so|' $< >$@

install:: $(VULKAN_LAYER)
	$(INSTALL) -d $(DESTDIR)$(PRIVLIBDIR) $(DESTDIR)$(DATADIR)/vulkan/implicit_layer.d
	$(INSTALL) -m 755 $(VULKAN_LAYER) $(DESTDIR)$(PRIVLIBDIR)/libflamed-vulkan.so
	sed 's|@LIBRARY@|$(PRIVLIBDIR)/libflamed-vulkan.so|' layers/vulkan/flamed-vulkan.json.in \
		>$(DESTDIR)$(DATADIR)/vulkan/implicit_layer.d/flamed-vulkan.json
	chmod 644 $(DESTDIR)$(DATADIR)/vulkan/implicit_layer.d/flamed-vulkan.json

uninstall::
	rm -f $(DESTDIR)$(PRIVLIBDIR)/libflamed-vulkan.so \
		$(DESTDIR)$(DATADIR)/vulkan/implicit_layer.d/flamed-vulkan.json
