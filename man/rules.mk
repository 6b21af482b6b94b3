# Man pages of every room.
install::
	$(INSTALL) -d $(foreach s,1 3 5 8,$(DESTDIR)$(MANDIR)/man$(s))
	for page in $(wildcard man/*.[1358]); do $(INSTALL) -m 644 $$page $(DESTDIR)$(MANDIR)/man$${page##*.}/ || exit; done

uninstall::
	for page in $(notdir $(wildcard man/*.[1358])); do rm -f $(DESTDIR)$(MANDIR)/man$${page##*.}/$$page; done
