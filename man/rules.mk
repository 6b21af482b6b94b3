# Man pages of every room. They name files below /usr/local, and are installed with the paths that are.
MAN_PATHS = sed -e 's\#/usr/local/lib/flamed\#$(PRIVLIBDIR)\#g' -e 's\#/usr/local/libexec/flamed\#$(LIBEXECDIR)\#g' \
	-e 's\#/usr/local/share\#$(DATADIR)\#g' -e 's\#/usr/local/sbin\#$(SBINDIR)\#g' \
	-e 's\#/usr/local/bin\#$(BINDIR)\#g'

install::
	$(INSTALL) -d $(foreach s,1 3 5 8,$(DESTDIR)$(MANDIR)/man$(s))
	for page in $(notdir $(wildcard man/*.[1358])); do \
		rm -f $(B)/page && $(MAN_PATHS) man/$$page >$(B)/page && \
			$(INSTALL) -m 644 $(B)/page $(DESTDIR)$(MANDIR)/man$${page##*.}/$$page || exit; \
	done

uninstall::
	for page in $(notdir $(wildcard man/*.[1358])); do rm -f $(DESTDIR)$(MANDIR)/man$${page##*.}/$$page; done
