// SPDX-License-Identifier: GPL-2.0
/*
 * Lets the firmware limit the performance states of all processors, as on a
 * laptop that runs from its battery: sets _PPC by a method of ssdt.asl, which
 * notifies the kernel.
 *   ppc   the highest state that is permitted; 0: all
 */
#include <linux/acpi.h>
#include <linux/module.h>

static unsigned int ppc;

static int ppc_set(const char *text, const struct kernel_param *param)
{
	int rc = param_set_uint(text, param);

	if (rc)
		return rc;
	return ACPI_SUCCESS(acpi_execute_simple_method(NULL, "\\FSET", ppc)) ? 0 : -EIO;
}

static const struct kernel_param_ops ppc_ops = {.set = ppc_set, .get = param_get_uint};
module_param_cb(ppc, &ppc_ops, &ppc, 0600);

static int __init firmware_init(void)
{
	return 0;
}

static void __exit firmware_exit(void)
{
}

module_init(firmware_init);
module_exit(firmware_exit);
MODULE_DESCRIPTION("firmware that limits processors, for testing flamed");
MODULE_LICENSE("GPL");
