# The configuration is the administrator's: an installed one is never replaced.
# boards.d says what detection cannot find out; one file a board.
install::
	$(INSTALL) -d $(DESTDIR)$(SYSCONFDIR) $(DESTDIR)$(BOARDSDIR)
	test -e $(DESTDIR)$(SYSCONFDIR)/flamed.conf || $(INSTALL) -m 644 etc/flamed.conf $(DESTDIR)$(SYSCONFDIR)/flamed.conf
	$(INSTALL) -m 644 $(wildcard etc/boards.d/*.ini) $(DESTDIR)$(BOARDSDIR)

uninstall::
	rm -rf $(DESTDIR)$(BOARDSDIR)
