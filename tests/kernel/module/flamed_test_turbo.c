// SPDX-License-Identifier: GPL-2.0
/*
 * Lowers the hardware maximum of every cpufreq policy, as a driver does when boost is switched off.
 *   khz   the highest frequency there is
 */
#include <linux/cpu.h>
#include <linux/cpufreq.h>
#include <linux/module.h>

static unsigned int khz;

static int khz_set(const char *text, const struct kernel_param *param)
{
	int rc = param_set_uint(text, param);
	unsigned int cpu;

	if (rc)
		return rc;
	for_each_online_cpu(cpu)
	{
		struct cpufreq_policy *policy = cpufreq_cpu_get(cpu);

		if (!policy)
			continue;
		policy->cpuinfo.max_freq = khz;
		cpufreq_cpu_put(policy);
		cpufreq_update_policy(cpu);
	}
	return 0;
}

static const struct kernel_param_ops khz_ops = {.set = khz_set, .get = param_get_uint};
module_param_cb(khz, &khz_ops, &khz, 0600);

static int __init turbo_init(void)
{
	return 0;
}

static void __exit turbo_exit(void)
{
}

module_init(turbo_init);
module_exit(turbo_exit);
MODULE_DESCRIPTION("boost that is switched off, for testing flamed");
MODULE_LICENSE("GPL");
