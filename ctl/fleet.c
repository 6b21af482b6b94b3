/* SPDX-License-Identifier: MIT */
/* flamectl models export and import: replies to op=export in a file, one after the other, each the message that
 * op=import takes. */
#include "ctl.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include "../common/file.h"

#define FILE_BYTES_MAX (64 * 1024 * 1024)

static int export_one(struct ctl *ctl, const char *model)
{
	struct kv_out out = {0};
	int rc;

	kv_add(&out, "op", "export");
	kv_add(&out, "model", "%s", model);
	rc = ctl_call(ctl, &out);
	kv_free(&out);
	for (size_t i = 0; rc == 0 && i < ctl->wire.reply.count; i++)
		if (strcmp(ctl->wire.reply.pair[i].key, "errno"))
			printf("%s=%s\n", ctl->wire.reply.pair[i].key, ctl->wire.reply.pair[i].value);
	if (rc == 0)
		printf("\n");
	return rc < 0;
}

/* The administrator's models that hold a sample. */
static int export_all(struct ctl *ctl)
{
	char names[MODELS_PER_UID_MAX][MODEL_NAME_MAX + 1];
	uint64_t from = 0;
	size_t count = 0;
	int rc = 0;

	do {
		if (ctl_ask_from(ctl, "models", from) < 0)
			return 1;
		for (size_t i = 0; *ctl_text(ctl, "model.%zu.name", i) && count < MODELS_PER_UID_MAX; i++)
			if (ctl_u64(ctl, "model.%zu.uid", i) == 0 && ctl_u64(ctl, "model.%zu.samples", i))
				snprintf(names[count++], sizeof(names[0]), "%s", ctl_text(ctl, "model.%zu.name", i));
		from = ctl_u64(ctl, "next");
	} while (from);
	for (size_t i = 0; i < count; i++)
		rc |= export_one(ctl, names[i]);
	if (!count)
		ctl_error(ctl, "nothing was measured here yet");
	return rc || !count;
}

int models_export(struct ctl *ctl, int count, char **models)
{
	int rc = 0;

	for (int i = 0; i < count; i++)
		if (ctl_want_model(ctl, models[i]))
			return 2;
	if (count == 0)
		return export_all(ctl);
	for (int i = 0; i < count; i++)
		rc |= export_one(ctl, models[i]);
	return rc;
}

static void say_versions(struct ctl *ctl, const struct kv *kv, const char *model)
{
	static const char *const keys[] = {"kernel", "driver", "system"};

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		const char *there = kv_get(kv, keys[i]), *here = ctl_text(ctl, "%s", keys[i]);

		if (strcmp(there ? there : "", here) != 0)
			printf("%s: measured with %s \"%s\", this board has \"%s\": its own measurements decide how "
			       "far the points count\n",
			       model, keys[i], there ? there : "", here);
	}
}

static int import_one(struct ctl *ctl, const struct kv *kv, bool other_versions)
{
	struct kv_out out = {0};
	char model[MODEL_NAME_MAX + 1];
	int rc;

	snprintf(model, sizeof(model), "%s", kv_get(kv, "model") ? kv_get(kv, "model") : "");
	kv_add(&out, "op", "import");
	for (size_t i = 0; i < kv->count; i++)
		if (strcmp(kv->pair[i].key, "op"))
			kv_add(&out, kv->pair[i].key, "%s", kv->pair[i].value);
	if (other_versions)
		kv_add_u64(&out, "other_versions", 1);
	rc = ctl_call(ctl, &out);
	kv_free(&out);
	if (rc == 0) {
		printf("%s: %llu points known from other boards; it starts from them\n", model,
		       (unsigned long long)ctl_u64(ctl, "points"));
		say_versions(ctl, kv, model);
	}
	return rc < 0;
}

int models_import(struct ctl *ctl, const char *path, bool other_versions)
{
	static struct kv kv;
	CLEANUP_MEM char *text = NULL;
	size_t len, at = 0, line, messages = 0;
	int rc = file_read(strcmp(path, "-") ? path : "/dev/stdin", FILE_BYTES_MAX, &text, &len), failed = 0;

	if (rc < 0) {
		ctl_error(ctl, "%s: %s", path, strerror(-rc));
		return 1;
	}
	for (long size; at < len && (size = kv_frame(text + at, len - at)) > 0; at += (size_t)size) {
		if (kv_parse(text + at, (size_t)size, &kv, &line) < 0)
			break;
		messages++;
		failed |= import_one(ctl, &kv, other_versions);
	}
	if (at == len && messages)
		return failed;
	ctl_error(ctl, "%s: no export of flamectl, from byte %zu on", path, at);
	return 1;
}
