/* SPDX-License-Identifier: MIT */
#include "scrub.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "../common/file.h"
#include "installation.h"

#define PEOPLE_UID_MIN       1000  /* smaller uids belong to system services, */
#define DYNAMIC_UID_MIN      61184 /* and so do those that systemd gives to services while they run */
#define DYNAMIC_UID_MAX      65519
#define NOBODY_UID           65534
#define DEVICE_ADDRESS_CHARS 17 /* six bytes in hexadecimal, with separators */
#define IP_ADDRESS_CHARS_MIN 3  /* ::1 */

static bool is_alnum(char c)
{
	return isalnum((unsigned char)c);
}

/* Each word once. Returns 0 or -ENOMEM. */
static int add_word(struct private_words *words, const char *word)
{
	char *copy;

	if (strlen(word) < 2 || !strcmp(word, "root") || !strcmp(word, "flamed") || !strcmp(word, "localhost"))
		return 0;
	for (size_t i = 0; i < words->count; i++)
		if (!strcasecmp(words->word[i], word))
			return 0;
	if (words->count == words->room) {
		size_t room = words->room ? 2 * words->room : 64;
		char **grown = realloc(words->word, room * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		words->word = grown;
		words->room = room;
	}
	copy = strdup(word);
	if (!copy)
		return -ENOMEM;
	words->word[words->count++] = copy;
	return 0;
}

/* Local accounts, and those of homed and of directories (LDAP, Active Directory), which have uids far above. */
static bool is_person(uid_t uid)
{
	return uid >= PEOPLE_UID_MIN && uid != NOBODY_UID && !(uid >= DYNAMIC_UID_MIN && uid <= DYNAMIC_UID_MAX);
}

/* The login name, and the person's name at the beginning of GECOS. */
static int add_user(struct private_words *words, const struct passwd *user)
{
	const char *gecos = user->pw_gecos ? user->pw_gecos : "";
	CLEANUP_MEM char *name = strndup(gecos, strcspn(gecos, ","));
	int rc = name ? add_word(words, user->pw_name) : -ENOMEM;

	return rc < 0 ? rc : add_word(words, name);
}

int scrub_find_words(struct private_words *words)
{
	static const char *const variables[] = {"USER", "LOGNAME", "SUDO_USER"};
	const struct passwd *user;
	char host[HOST_NAME_MAX + 1] = "";
	int rc;

	*words = (struct private_words){0};
	gethostname(host, sizeof(host) - 1);
	rc = add_word(words, host);
	host[strcspn(host, ".")] = '\0';
	rc = rc < 0 ? rc : add_word(words, host);
	for (size_t i = 0; rc == 0 && i < sizeof(variables) / sizeof(variables[0]); i++)
		rc = add_word(words, getenv(variables[i]) ? getenv(variables[i]) : "");
	setpwent();
	errno = 0;
	while (rc == 0 && (user = getpwent()) != NULL) {
		if (is_person(user->pw_uid))
			rc = add_user(words, user);
		errno = 0;
	}
	if (rc == 0 && errno == ENOMEM)
		rc = -ENOMEM;
	endpwent();
	return rc;
}

void scrub_free_words(struct private_words *words)
{
	for (size_t i = 0; i < words->count; i++)
		free(words->word[i]);
	free(words->word);
	*words = (struct private_words){0};
}

/* Length of a private word at `p`, with digits after it; 0: none. It may be a part of a longer name: my-HOST-2. */
static size_t private_at(const struct private_words *words, const char *text, const char *p)
{
	for (size_t i = 0; i < words->count && (p == text || !is_alnum(p[-1])); i++) {
		size_t len = strlen(words->word[i]);

		if (strncasecmp(p, words->word[i], len) != 0)
			continue;
		len += strspn(p + len, "0123456789");
		if (!is_alnum(p[len]))
			return len;
	}
	return 0;
}

/* Does a path begin at `p`? A slash after a letter or digit is within a word, but for the letter of an option: -I/x. */
static bool begins_path(const char *text, const char *p)
{
	if (*p != '/' || !p[1] || isspace((unsigned char)p[1]))
		return false;
	return p == text || !is_alnum(p[-1]) || (p - text >= 2 && p[-2] == '-' && isalpha((unsigned char)p[-1]));
}

/* Length of a path at `p` in sysfs or to a file of flamed; 0: it leads elsewhere. */
static size_t our_path(const char *p)
{
	static const char *const ours[] = {"/sys",
					   "/proc/device-tree",
					   "/dev/dri",
					   SYSCONFDIR "/flamed",
					   SYSCONFDIR "/flamed.conf",
					   "/run/flamed",
					   "/run/flamed-keeper",
					   "/var/lib/flamed",
					   "/var/lib/flamed-keeper",
					   BINDIR "/flamectl",
					   BINDIR "/flamed-exporter",
					   SBINDIR "/flamed",
					   LIBEXECDIR "/flamed-keeper"};
	size_t end = strcspn(p, " \t\r\n\"',;()=<>|&");
	const char *next = memmem(p, end, ":/", 2);

	if (next)
		end = (size_t)(next - p);
	if (memmem(p, end, "/..", 3))
		return 0;
	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
		size_t len = strlen(ours[i]);

		if (len <= end && !strncmp(p, ours[i], len) && (len == end || p[len] == '/' || p[len] == ':'))
			return end;
	}
	return 0;
}

/* Length of any other path at `p`: up to the quote that it stands in, else up to white space without a backslash. */
static size_t other_path(const char *p, char quote)
{
	const char stops[] = {quote, '\n', '\0'};
	size_t len = quote ? strcspn(p, stops) : 0;

	if (len && p[len] == quote)
		return len;
	for (len = 0; p[len] && !isspace((unsigned char)p[len]); len++)
		if (p[len] == '\\' && p[len + 1])
			len++;
	return len;
}

static bool is_device_address(const char *p)
{
	for (size_t i = 0; i < DEVICE_ADDRESS_CHARS; i++)
		if (i % 3 == 2 ? !p[i] || !strchr(":-_", p[i]) : !isxdigit((unsigned char)p[i]))
			return false;
	return !is_alnum(p[DEVICE_ADDRESS_CHARS]);
}

bool scrub_has_device_address(const char *text)
{
	for (const char *p = text; *p; p++)
		if ((p == text || !is_alnum(p[-1])) && is_device_address(p))
			return true;
	return false;
}

/* Length of an IP address at `p`, without punctuation after it; 0: none. */
static size_t ip_at(const char *p, int family, const char *characters)
{
	char copy[INET6_ADDRSTRLEN];
	struct in6_addr address;

	for (size_t len = strspn(p, characters); len >= IP_ADDRESS_CHARS_MIN; len--) {
		snprintf(copy, sizeof(copy), "%.*s", (int)len, p);
		if (len < sizeof(copy) && !is_alnum(p[len]) && inet_pton(family, copy, &address) == 1)
			return len;
		if (is_alnum(p[len - 1]))
			return 0;
	}
	return 0;
}

static bool in_mail(char c)
{
	return is_alnum(c) || (unsigned char)c >= 0x80 || (c && strchr("._%+-", c));
}

/* Length of an e-mail address at `p`; 0: none. flamed's own MODEL@UID is none. */
static size_t mail_at(const char *text, const char *p)
{
	bool letter = false;
	size_t len = 0;

	if (p > text && in_mail(p[-1]))
		return 0;
	while (in_mail(p[len]))
		len++;
	if (!len || p[len] != '@')
		return 0;
	for (len++; in_mail(p[len]); len++)
		letter |= !isdigit((unsigned char)p[len]);
	return letter ? len : 0;
}

static size_t address_at(const char *text, const char *p)
{
	size_t len;

	if (p > text && is_alnum(p[-1]))
		return 0;
	len = ip_at(p, AF_INET6, "0123456789abcdefABCDEF:.");
	if (!len && (p == text || p[-1] != '.'))
		len = ip_at(p, AF_INET, "0123456789.");
	return len || !is_device_address(p) ? len : DEVICE_ADDRESS_CHARS;
}

/* The quote that is open after the character at `p`; '\0': none. An apostrophe opens none. */
static char quote_after(const char *text, const char *p, char quote)
{
	if (*p == '\n' || *p == quote)
		return '\0';
	if (!quote && (*p == '"' || (*p == '\'' && (p == text || !is_alnum(p[-1])))))
		return *p;
	return quote;
}

char *scrub(const struct private_words *words, const char *text)
{
	char *out = malloc(4 * strlen(text) + 16), quote = '\0'; /* the shortest name, of two, becomes seven */
	const char *kept = text;                                 /* end of a path of ours */
	size_t n = 0;

	for (const char *p = text; out && *p;) {
		const char *instead = "PATH";
		size_t len = 0;

		if (p >= kept && begins_path(text, p)) {
			kept = p + our_path(p);
			len = kept == p ? other_path(p, quote) : 0;
		}
		if (!len) {
			instead = "ADDRESS";
			len = p >= kept ? mail_at(text, p) : 0; /* the kernel has names such as gpu@ff9a0000 */
			len = len ? len : address_at(text, p);
		}
		if (!len) {
			instead = "PRIVATE";
			len = private_at(words, text, p);
		}
		if (len) {
			n += (size_t)sprintf(out + n, "%s", instead);
			p += len;
			continue;
		}
		quote = quote_after(text, p, quote);
		out[n++] = *p++;
	}
	if (out)
		out[n] = '\0';
	return out;
}
