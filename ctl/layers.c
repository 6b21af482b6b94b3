/* SPDX-License-Identifier: MIT */
#include "layers.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "../common/kv.h"
#include "../common/units.h"
#include "installation.h"

/* How a program is made to load a layer. */
enum how {
	APPEND,  /* append its path to the variable: the last one is nearest to the program */
	PRELOAD, /* prepend its path to the variable */
	ENABLE   /* it is found by its manifest, and enabled by the variable */
};

static const struct kind {
	const char *name;
	const char *library;  /* in PRIVLIBDIR */
	const char *override; /* environment variable that replaces its path; NULL: none */
	enum how how;
	const char *variable;
	const char *api;      /* library that programs of this API load; NULL: none in particular */
	const char *drivers;  /* directories with one file for each driver, separated by ':'; NULL: not checked */
	const char *named_by; /* environment variables, separated by ':', that name drivers instead */
	const char *need;     /* what it needs, for people */
} kinds[] = {
	{"opencl", "libflamed-opencl.so", "FLAMED_OPENCL_LAYER", APPEND, "OPENCL_LAYERS", "libOpenCL.so.1",
	 "/etc/OpenCL/vendors", "OCL_ICD_VENDORS:OCL_ICD_FILENAMES", "OpenCL"},
	{"vulkan", "libflamed-vulkan.so", NULL, ENABLE, "FLAMED_VULKAN", "libvulkan.so.1",
	 "/usr/share/vulkan/icd.d:/usr/local/share/vulkan/icd.d:/etc/vulkan/icd.d", "VK_DRIVER_FILES:VK_ICD_FILENAMES",
	 "Vulkan"},
	{"cuda", "libflamed-cuda.so", "FLAMED_CUDA_LAYER", PRELOAD, "LD_PRELOAD", "libcuda.so.1", NULL, NULL, "CUDA"},
	{"engines", "libflamed-engines.so", "FLAMED_ENGINES_LAYER", PRELOAD, "LD_PRELOAD", NULL, NULL, NULL,
	 "an engine on the CPU"},
};

#define KINDS (sizeof(kinds) / sizeof(*kinds))
_Static_assert(KINDS <= LAYER_KINDS_MAX, "LAYER_KINDS_MAX");

size_t layers_count(void)
{
	return KINDS;
}

const char *layers_name(size_t kind)
{
	return kinds[kind].name;
}

static void library_path(const struct kind *kind, char path[PATH_MAX])
{
	const char *other = kind->override ? getenv(kind->override) : NULL;

	if (other && *other)
		snprintf(path, PATH_MAX, "%s", other);
	else
		snprintf(path, PATH_MAX, PRIVLIBDIR "/%s", kind->library);
}

/* Call `look` for each part of a list separated by ':' until it returns true. */
static bool any_part(const char *list, bool (*look)(const char *part, const void *arg), const void *arg)
{
	char part[PATH_MAX];

	while (list && *list) {
		size_t len = strcspn(list, ":");

		if (len > 0 && len < sizeof(part)) {
			memcpy(part, list, len);
			part[len] = '\0';
			if (look(part, arg))
				return true;
		}
		list += len + (list[len] == ':');
	}
	return false;
}

static bool has_manifest(const char *folder, const void *arg)
{
	char path[PATH_MAX];

	(void)arg;
	return snprintf(path, sizeof(path), "%s/vulkan/implicit_layer.d/flamed-vulkan.json", folder) < PATH_MAX &&
	       access(path, R_OK) == 0;
}

/* Look in the directories of the Vulkan loader. */
static bool manifest_found(void)
{
	const char *dirs = getenv("XDG_DATA_DIRS"), *home = getenv("HOME"), *data = getenv("XDG_DATA_HOME");
	char local[PATH_MAX] = "";

	if (data && *data)
		snprintf(local, sizeof(local), "%s", data);
	else if (home && *home)
		snprintf(local, sizeof(local), "%s/.local/share", home);
	return any_part(local, has_manifest, NULL) ||
	       any_part(dirs && *dirs ? dirs : "/usr/local/share:/usr/share", has_manifest, NULL) ||
	       has_manifest("/etc", NULL);
}

static bool installed(const struct kind *kind, char path[PATH_MAX])
{
	if (kind->how == ENABLE)
		return manifest_found();
	library_path(kind, path);
	return access(path, R_OK) == 0;
}

static void set(const struct kind *kind, const char *path)
{
	const char *before = getenv(kind->variable);
	char value[2 * PATH_MAX];

	if (kind->how == ENABLE)
		snprintf(value, sizeof(value), "1");
	else if (!before || !*before)
		snprintf(value, sizeof(value), "%s", path);
	else if (kind->how == APPEND)
		snprintf(value, sizeof(value), "%s:%s", before, path);
	else
		snprintf(value, sizeof(value), "%s:%s", path, before);
	setenv(kind->variable, value, 1);
}

/* NVTX itself loads the library that this variable names, which may already be a profiler. */
static void set_nvtx(const char *path)
{
	const char *boundary = getenv("FLAMED_BOUNDARY");

	if (boundary && strncmp(boundary, "nvtx:", 5) == 0)
		setenv("NVTX_INJECTION64_PATH", path, 0);
}

void layers_set_environment(void)
{
	char path[PATH_MAX] = "";

	for (size_t i = 0; i < KINDS; i++) {
		if (!installed(&kinds[i], path))
			continue;
		set(&kinds[i], path);
		if (strcmp(kinds[i].name, "cuda") == 0)
			set_nvtx(path);
	}
}

static bool has_file(const char *folder, const void *arg)
{
	DIR *dir = opendir(folder);
	struct dirent *entry;
	bool found = false;

	(void)arg;
	while (dir && !found && (entry = readdir(dir)))
		found = entry->d_name[0] != '.';
	if (dir)
		closedir(dir);
	return found;
}

static bool is_set(const char *variable, const void *arg)
{
	const char *value = getenv(variable);

	(void)arg;
	return value && *value;
}

/* Load and unload a library. Returns NULL, or the reason why it cannot be loaded. */
static const char *load(const char *library)
{
	void *handle = dlopen(library, RTLD_LAZY | RTLD_LOCAL);

	if (!handle)
		return dlerror();
	dlclose(handle);
	return NULL;
}

int layers_check(size_t index, char *why, size_t size)
{
	const struct kind *kind = &kinds[index];
	char path[PATH_MAX];
	const char *error;

	library_path(kind, path);
	if (kind->how != ENABLE && access(path, R_OK) < 0) {
		snprintf(why, size, "not installed: there is no %s", path);
		return -ENOENT;
	}
	if (!installed(kind, path)) {
		snprintf(why, size,
			 access(path, R_OK) < 0 ?
				 "not installed: there is no %s" :
				 "the Vulkan loader does not find its manifest: add its share directory to "
				 "XDG_DATA_DIRS (library: %s)",
			 path);
		return -ENOENT;
	}
	error = access(path, R_OK) == 0 ? load(path) : NULL;
	if (error) {
		snprintf(why, size, "cannot be loaded: %s", error);
		return -ENOEXEC;
	}
	error = kind->api ? load(kind->api) : NULL;
	if (error) {
		snprintf(why, size, "%s not found: %s", kind->need, error);
		return -ENODEV;
	}
	if (kind->drivers && !any_part(kind->named_by, is_set, NULL) && !any_part(kind->drivers, has_file, NULL)) {
		snprintf(why, size, "no driver for %s: none in %s", kind->need, kind->drivers);
		return -ENODEV;
	}
	return 0;
}

/* An unnamed file, so that nothing is left behind when a process is killed. */
int layers_open_summary(char *path, size_t size)
{
	int fd = memfd_create("flamed-summary", MFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	snprintf(path, size, "/proc/%ld/fd/%d", (long)getpid(), fd);
	return fd;
}

static uint64_t number_in(const char *line, const char *key)
{
	const char *at = strstr(line, key);
	char text[24];
	uint64_t value = 0;

	if (at) {
		snprintf(text, sizeof(text), "%.*s", (int)strspn(at + strlen(key), "0123456789"), at + strlen(key));
		parse_u64(text, &value);
	}
	return value;
}

static void read_line(const char *line, struct layers_seen *seen)
{
	const char *layer = strstr(line, " layer=");

	for (size_t i = 0; layer && i < KINDS; i++) {
		size_t len = strlen(kinds[i].name);

		if (strncmp(layer + 7, kinds[i].name, len) != 0 || layer[7 + len] != ' ')
			continue;
		seen->loaded[i] = true;
		seen->inferences[i] += number_in(line, "inferences=");
		seen->launches[i] += number_in(line, " launches=");
	}
}

void layers_read_summary(int fd, struct layers_seen *seen)
{
	char line[LINE_BYTES_MAX];
	FILE *file = fdopen(fd, "r");

	*seen = (struct layers_seen){0};
	if (!file) {
		close(fd);
		return;
	}
	rewind(file);
	while (fgets(line, sizeof(line), file))
		read_line(line, seen);
	fclose(file);
}
