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
#include <sys/stat.h>
#include <unistd.h>
#include "../common/kv.h"
#include "../common/units.h"
#include "installation.h"

/* How a program is made to load a layer. */
enum how {
	APPEND,  /* append its path to the variable: the last one is nearest to the program */
	PRELOAD, /* prepend its path to the variable */
	ENABLE,  /* it is found by its manifest, and enabled by the variable */
	TRACE    /* GStreamer finds it in its folder, and starts it by name */
};

static const struct kind {
	const char *name;
	const char *library;  /* its installed path */
	const char *override; /* environment variable that replaces its path; NULL: none */
	enum how how;
	const char *variable;
	const char *api;      /* library that programs of this API load; NULL: none in particular */
	const char *drivers;  /* directories with one file for each driver, separated by ':' (Vulkan: in words); NULL:
			       * not checked */
	const char *named_by; /* environment variable that names drivers instead, */
	const char *old_name; /* and its older name, which counts while the other is not set */
	const char *added_by; /* environment variable that names further drivers */
	const char *need;     /* its requirements, for people */
} kinds[] = {
	{"opencl", PRIVLIBDIR "/libflamed-opencl.so", "FLAMED_OPENCL_LAYER", APPEND, "OPENCL_LAYERS", "libOpenCL.so.1",
	 "/etc/OpenCL/vendors", "OCL_ICD_VENDORS", NULL, "OCL_ICD_FILENAMES", "OpenCL"},
	{"vulkan", PRIVLIBDIR "/libflamed-vulkan.so", NULL, ENABLE, "FLAMED_VULKAN", "libvulkan.so.1",
	 "vulkan/icd.d of /etc and of the XDG directories for configuration and data", "VK_DRIVER_FILES",
	 "VK_ICD_FILENAMES", "VK_ADD_DRIVER_FILES", "Vulkan"},
	{"cuda", PRIVLIBDIR "/libflamed-cuda.so", "FLAMED_CUDA_LAYER", PRELOAD, "LD_PRELOAD", "libcuda.so.1", NULL,
	 NULL, NULL, NULL, "CUDA"},
	{"engines", PRIVLIBDIR "/libflamed-engines.so", "FLAMED_ENGINES_LAYER", PRELOAD, "LD_PRELOAD", NULL, NULL, NULL,
	 NULL, NULL, "llama.cpp, or ONNX Runtime by its C API (Python does not), on the CPU"},
	{"gstreamer", GST_PLUGINSDIR "/libgstflamed.so", "FLAMED_GSTREAMER_LAYER", TRACE, "GST_TRACERS",
	 "libgstreamer-1.0.so.0", NULL, NULL, NULL, NULL, "GStreamer"},
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

const char *layers_api(size_t kind)
{
	return kinds[kind].need;
}

static void library_path(const struct kind *kind, char path[PATH_MAX])
{
	const char *other = kind->override ? getenv(kind->override) : NULL;

	snprintf(path, PATH_MAX, "%s", other && *other ? other : kind->library);
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

static bool has_name(const char *folder, const void *name)
{
	char path[PATH_MAX];

	return snprintf(path, sizeof(path), "%s/%s", folder, (const char *)name) < PATH_MAX && access(path, R_OK) == 0;
}

/* Call `look` for a folder below each part of a list. */
struct below {
	const char *folder;
	bool (*look)(const char *part, const void *arg);
	const void *arg;
};

static bool look_below(const char *part, const void *arg)
{
	const struct below *below = arg;
	char path[PATH_MAX];

	return snprintf(path, sizeof(path), "%s/%s", part, below->folder) < PATH_MAX && below->look(path, below->arg);
}

/* Call `look` for a folder of the Vulkan loader, in each place where it looks for it (LoaderDriverInterface.md,
 * "Driver Discovery on Linux"; layers are found in the same places). */
static bool any_of_vulkan(const char *folder, bool (*look)(const char *part, const void *arg), const void *arg)
{
	static const struct {
		const char *variable, *of_home, *otherwise;
	} places[] = {{"XDG_CONFIG_HOME", ".config", NULL},
		      {"XDG_CONFIG_DIRS", NULL, "/etc/xdg"},
		      {NULL, NULL, "/etc"},
		      {"XDG_DATA_HOME", ".local/share", NULL},
		      {"XDG_DATA_DIRS", NULL, "/usr/local/share:/usr/share"}};
	const struct below below = {folder, look, arg};
	const char *home = getenv("HOME");
	char local[PATH_MAX];

	for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
		const char *list = places[i].variable ? getenv(places[i].variable) : NULL;

		if (!list || !*list)
			list = places[i].otherwise;
		if (!list && home && *home &&
		    snprintf(local, sizeof(local), "%s/%s", home, places[i].of_home) < PATH_MAX)
			list = local;
		if (any_part(list, look_below, &below))
			return true;
	}
	return false;
}

static bool installed(const struct kind *kind, char path[PATH_MAX])
{
	if (kind->how == ENABLE)
		return any_of_vulkan("vulkan/implicit_layer.d", has_name, "flamed-vulkan.json");
	library_path(kind, path);
	return access(path, R_OK) == 0;
}

/* Add a part to a list in a variable, which may be unset. */
static void add(const char *variable, const char *part, char separator, bool in_front)
{
	const char *before = getenv(variable);
	char value[2 * PATH_MAX];

	if (before && *before)
		snprintf(value, sizeof(value), "%s%c%s", in_front ? part : before, separator, in_front ? before : part);
	else
		snprintf(value, sizeof(value), "%s", part);
	setenv(variable, value, 1);
}

/* A tracer that the user set is kept, with the element and the deadline that it names. It cannot profile. */
static void set_tracer(const struct kind *kind, char *path)
{
	const char *tracers = getenv(kind->variable);
	char *name = strrchr(path, '/');

	if (!name || getenv("FLAMED_PROFILE"))
		return;
	*name = '\0';
	/* the versioned variable, where set, replaces the other */
	add(getenv("GST_PLUGIN_PATH_1_0") ? "GST_PLUGIN_PATH_1_0" : "GST_PLUGIN_PATH", path, ':', false);
	if (!tracers || !strstr(tracers, "flamed"))
		add(kind->variable, "flamed", ';', false);
}

static void set(const struct kind *kind, char *path)
{
	if (kind->how == TRACE)
		set_tracer(kind, path);
	else if (kind->how == ENABLE)
		setenv(kind->variable, "1", 1);
	else
		add(kind->variable, path, ':', kind->how == PRELOAD);
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

/* Load and unload a library. Returns NULL, or the reason why it cannot be loaded. */
static const char *load(const char *library)
{
	void *handle = dlopen(library, RTLD_LAZY | RTLD_LOCAL);

	if (!handle)
		return dlerror();
	dlclose(handle);
	return NULL;
}

/* Call `look` for each folder with drivers. */
static bool any_driver_folder(const struct kind *kind, bool (*look)(const char *part, const void *arg), const void *arg)
{
	return kind->how == ENABLE ? any_of_vulkan("vulkan/icd.d", look, arg) : any_part(kind->drivers, look, arg);
}

/* A loader takes a file, all files of a folder, or a name alone: of a file in its own folder or of a library. */
static bool is_driver(const char *name, const void *kind)
{
	struct stat st;

	if (stat(name, &st) == 0)
		return S_ISDIR(st.st_mode) ? has_file(name, NULL) : access(name, R_OK) == 0;
	return !strchr(name, '/') && (any_driver_folder(kind, has_name, name) || !load(name));
}

static bool driver_found(const struct kind *kind, char *why, size_t size)
{
	const char *variable = kind->named_by, *named = getenv(variable);

	if ((!named || !*named) && kind->old_name) {
		variable = kind->old_name;
		named = getenv(variable);
	}
	if (any_part(getenv(kind->added_by), is_driver, kind))
		return true;
	if (named && *named) {
		snprintf(why, size, "no driver for %s: none is in %s=%s", kind->need, variable, named);
		return any_part(named, is_driver, kind);
	}
	snprintf(why, size, "no driver for %s: none in %s", kind->need, kind->drivers);
	return any_driver_folder(kind, has_file, NULL);
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
	error = kind->api ? load(kind->api) : NULL;
	if (error) {
		snprintf(why, size, "%s not found: %s", kind->need, error);
		return -ENODEV;
	}
	error = access(path, R_OK) == 0 ? load(path) : NULL; /* it may need the library of its API */
	if (error) {
		snprintf(why, size, "cannot be loaded: %s", error);
		return -ENOEXEC;
	}
	return kind->drivers && !driver_found(kind, why, size) ? -ENODEV : 0;
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
