# The configuration is the administrator's: a file that is there is never replaced, and one
# that was changed is never removed. boards.d has the properties that detection cannot find; one file a board.
config_files = for file in etc/flamed.conf etc/boards.d/*.ini; do \
	case $$file in etc/flamed.conf) to=$(DESTDIR)$(SYSCONFDIR)/flamed.conf ;; \
	*) to=$(DESTDIR)$(BOARDSDIR)/$${file\#\#*/} ;; esac; \
	$(1) \
	done

install::
	$(INSTALL) -d $(DESTDIR)$(SYSCONFDIR) $(DESTDIR)$(BOARDSDIR)
	@$(call config_files,if [ ! -e "$$to" ]; then $(INSTALL) -m 644 $$file "$$to" || exit; \
		elif ! cmp -s $$file "$$to"; then echo "kept: $$to differs from this version's $$file"; fi;)

uninstall::
	@$(call config_files,if cmp -s $$file "$$to"; then rm -f "$$to" || exit; \
		elif [ -e "$$to" ]; then echo "kept: $$to was changed"; fi;)
