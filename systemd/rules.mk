# Units with the installed paths filled in.
UNITS := $(patsubst systemd/%.in,$(B)/systemd/%,$(wildcard systemd/*.service.in))
ALL += $(UNITS)

$(B)/systemd/%: systemd/%.in $(PATHS)
	@mkdir -p $(@D) && rm -f $@
	sed -e 's#@SBINDIR@#$(SBINDIR)#g' -e 's#@BINDIR@#$(BINDIR)#g' \
		-e 's#@LIBEXECDIR@#$(LIBEXECDIR)#g' -e 's#@SYSCONFDIR@#$(SYSCONFDIR)#g' $< >$@

install::
	$(INSTALL) -d $(DESTDIR)$(UNITDIR) $(DESTDIR)$(SYSUSERSDIR) $(DESTDIR)$(TMPFILESDIR)
	$(INSTALL) -m 644 $(UNITS) $(wildcard systemd/*.socket) $(DESTDIR)$(UNITDIR)
	$(INSTALL) -m 644 systemd/flamed.sysusers $(DESTDIR)$(SYSUSERSDIR)/flamed.conf
	$(INSTALL) -m 644 systemd/flamed.tmpfiles $(DESTDIR)$(TMPFILESDIR)/flamed.conf

uninstall::
	rm -f $(addprefix $(DESTDIR)$(UNITDIR)/,$(notdir $(UNITS) $(wildcard systemd/*.socket)))
	rm -f $(DESTDIR)$(SYSUSERSDIR)/flamed.conf $(DESTDIR)$(TMPFILESDIR)/flamed.conf
