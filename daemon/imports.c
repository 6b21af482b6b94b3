/* SPDX-License-Identifier: MIT */
#include "imports.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../common/file.h"
#include "library.h"
#include "model_files.h"
#include "user.h"

/* What imports_add() leaves. */
struct imported {
	int rc;
	char message[256];
	_Alignas(max_align_t) char image[]; /* of the measurements of all other boards */
};

struct model *imports_read(const struct library *library, const struct entry *entry)
{
	struct model *model = model_new(library->grid, &library->options);
	struct entry of_all = {.owner = USER_ADMIN, .model = model};

	strcpy(of_all.name, entry->name);
	strcpy(of_all.mode, entry->mode);
	if (model && files_load_inherited(library->dir, &of_all) >= 0)
		return model;
	model_free(model);
	return NULL;
}

void imports_give(struct entry *entry, struct model *from)
{
	if (from && !model_measured_bytes(from)) {
		model_free(from);
		from = NULL;
	}
	model_inherit(entry->model, from);
}

size_t imports_bytes(const struct library *library)
{
	return sizeof(struct imported) + model_image_bytes(library->grid, &library->options);
}

static int add(const struct library *library, struct entry *of_all, char *text, struct imported *out)
{
	CLEANUP_MEM struct sample *samples = NULL;
	char source[] = "import";
	int rc = files_load_inherited(library->dir, of_all);

	if (rc >= 0)
		rc = files_learn_samples(of_all, text, source, out->message, sizeof(out->message));
	long count = rc < 0 ? rc : model_samples(of_all->model, &samples);
	if (count <= 0)
		return count < 0 ? (int)count : -EINVAL;
	rc = files_save_inherited(library->dir, of_all, samples, (size_t)count);
	return rc < 0 ? rc : (int)count;
}

void imports_add(const struct library *library, const char *name, const char *mode, char *text, void *out)
{
	struct imported *imported = out;
	struct entry of_all = {.owner = USER_ADMIN, .model = model_new(library->grid, &library->options)};

	strcpy(of_all.name, name);
	strcpy(of_all.mode, mode);
	imported->rc = of_all.model && text ? add(library, &of_all, text, imported) : -ENOMEM;
	model_free(of_all.model);
	if (imported->rc < 0)
		return;
	of_all.model = imports_read(library, &of_all); /* as they are in the file, which rounds */
	if (of_all.model)
		model_image_put(of_all.model, imported->image);
	else
		imported->rc = -ENOMEM;
	model_free(of_all.model);
}

int imports_take(struct library *library, const char *name, const char *mode, const void *in, const char **message)
{
	const struct imported *imported = in;

	*message = imported->message;
	for (size_t i = 0; i < library->count && imported->rc >= 0; i++) {
		struct entry *entry = &library->entry[i];

		if (strcmp(entry->name, name) != 0 || strcmp(entry->mode, mode) != 0)
			continue;
		entry->imports++;
		if (entry->unread)
			continue;
		struct model *others = model_new(library->grid, &library->options);
		int rc = others ? model_image_take(others, imported->image) : -ENOMEM;
		if (rc < 0) {
			model_free(others);
			return rc;
		}
		imports_give(entry, others);
	}
	return imported->rc;
}
