#!/bin/sh
# SPDX-License-Identifier: MIT
# tools/release, on a copy of this tree: one version everywhere, NEWS dated, a commit, a tag, a tarball; and what it
# refuses, which leaves everything as it was.
# shellcheck source=tests/result.sh
. "${0%/*}/../result.sh"
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
log=$dir/log copy=$dir/copy version=98.7.6
mkdir "$copy"
export HOME="$dir" GIT_CONFIG_NOSYSTEM=1
git config --global --add safe.directory '*'
git config --global user.name test
git config --global user.email test@flamed.invalid
git ls-files -z >"$dir/files" 2>"$log" && xargs -0 cp --parents -Pt "$copy" <"$dir/files" || {
	echo "ok 1 - tools/release # SKIP not a git repository"
	echo 1..1
	exit 0
}
cd "$copy" || exit 1
awk -v new="flamed $version (unreleased)" '
	/^flamed [0-9.]* \(/ && !done { print new "\n==========================\n\n* Something.\n"; done = 1 }
	{ print }' NEWS >NEWS.new && mv NEWS.new NEWS
{ git init -q && git add -A && git commit -q -m start; } >"$log" 2>&1
result $? "a repository to release from"
start=$(git rev-parse HEAD)

# refused WHAT WORDS COMMAND ...: it ends with 1, says WORDS, and neither commits nor tags
refused() {
	what=$1 words=$2
	shift 2
	"$@" >"$log" 2>&1
	[ $? -eq 1 ] && grep -q "$words" "$log" && [ "$(git rev-parse HEAD)" = "$start" ] && [ -z "$(git tag)" ]
	result $? "refused: $what"
}

# other FILE SED: --check names FILE where it is for another version
other() {
	sed -i "$2" "$1"
	refused "$1 is for another version" "$1" tools/release --check
	git checkout -q -- "$1"
}

tools/release --check >"$log" 2>&1
result $? "every file that names the version names the Makefile's"
other debian/changelog '1s/(.*)/(0.0.1)/'
other debian/changelog '1s/(.*)/(0.0.1~dev)/'
other lib/python/pyproject.toml 's/^version = .*/version = "0.0.1"/'
other contrib/rpm/flamed.spec 's/^Version:.*/Version: 0.0.1/'
other debian/libflamed0.symbols '$s/ [0-9.~]*$/ 99.0.0/'
sed -i '1s/(.*)/(98.7.6~dev)/' debian/changelog
sed -i '$s/ [0-9.]*$/ 98.7.6~/' debian/libflamed0.symbols
tools/release --check >"$log" 2>&1
result $? "a package before the release, with a symbol that is new in it, is for that release"
other debian/libflamed0.symbols '$s/ [0-9.~]*$/ 98.7.6/'
git checkout -q -- debian
refused "NEWS begins with another version" "NEWS does not begin with 98.7.7" tools/release 98.7.7
echo >>README.md
refused "a change that is not committed" "not committed" tools/release $version
git checkout -q -- README.md
tools/release 98.7 >"$log" 2>&1
[ $? -eq 2 ] && grep -q ^usage: "$log"
result $? "what is no version: usage, and exit status 2"

printf '#!/bin/sh\nexit 1\n' >.git/hooks/pre-commit
chmod +x .git/hooks/pre-commit
tools/release $version >"$log" 2>&1
[ $? -ne 0 ] && [ -z "$(git status --porcelain)" ] && [ "$(git rev-parse HEAD)" = "$start" ] && [ -z "$(git tag)" ]
result $? "one whose commit a hook refuses leaves the tree as it was"
rm .git/hooks/pre-commit

tools/release $version >"$log" 2>&1
result $? "a release"
[ -z "$(git status --porcelain)" ] && [ "$(git rev-parse HEAD^)" = "$start" ] &&
	[ "$(git log -1 --format=%s)" = "release: flamed $version" ] &&
	[ "$(git cat-file -t v$version)" = tag ] && [ "$(git rev-parse "v$version^{}")" = "$(git rev-parse HEAD)" ]
result $? "is one commit, with an annotated tag, and leaves nothing uncommitted"
heading=$(grep -n "^flamed $version (" NEWS)
grep -Eq "^flamed $version \([0-9]{4}-[0-9]{2}-[0-9]{2}\)$" NEWS &&
	[ "$(sed -n "$((${heading%%:*} + 1))p" NEWS)" = "$(echo "${heading#*:}" | tr -c '\n' =)" ]
result $? "NEWS has its date, underlined"
grep -q "^VERSION := $version$" Makefile && ! grep -q "~dev" debian/changelog &&
	tools/release --check >"$log" 2>&1
result $? "the version is the same in every file"
(cd build && sha256sum -c "flamed-$version.tar.gz.sha256" >"$log" 2>&1) &&
	tar -xzf "build/flamed-$version.tar.gz" -C "$dir" &&
	git archive HEAD | tar -x -C "$dir" --one-top-level=tagged &&
	diff -r "$dir/flamed-$version" "$dir/tagged" >>"$log"
result $? "the tarball is what is tagged, below flamed-$version, and has its checksum"
# The tools of a package build are replaced: here only what tools/deb gives them counts.
mkdir "$dir/bin"
for tool in dpkg dpkg-parsechangelog dpkg-buildpackage lintian; do
	printf '#!/bin/sh\necho 0\n' >"$dir/bin/$tool"
done
echo 'touch ../flamed.deb ../flamed.changes' >>"$dir/bin/dpkg-buildpackage"
chmod +x "$dir/bin"/*
(cd "$dir/flamed-$version" && mkdir build && touch build/other && PATH="$dir/bin:$PATH" tools/deb) >"$log" 2>&1 &&
	diff -r "$dir/flamed-$version/build/deb/src" "$dir/tagged" >>"$log"
result $? "Debian packages are built from what the tarball holds"
start=$(git rev-parse HEAD)
tools/release $version >"$log" 2>&1
[ $? -eq 1 ] && grep -q "v$version exists already" "$log" && [ "$(git rev-parse HEAD)" = "$start" ]
result $? "refused: the same once more"
echo "1..$n"
exit $fail
