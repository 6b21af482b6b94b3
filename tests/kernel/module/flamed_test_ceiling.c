// SPDX-License-Identifier: GPL-2.0
/*
 * Holds a ceiling on every cpufreq policy as thermal control or a power mode
 * does: another QoS request, which the kernel takes the lowest of.
 *   khz   the ceiling
 */
#include <linux/cpu.h>
#include <linux/cpufreq.h>
#include <linux/module.h>
#include <linux/pm_qos.h>

static int khz = 1200000;
module_param(khz, int, 0400);

static struct freq_qos_request request[NR_CPUS];
static bool held[NR_CPUS];

static int __init ceiling_init(void)
{
	unsigned int cpu;

	for_each_online_cpu(cpu) {
		struct cpufreq_policy *policy = cpufreq_cpu_get(cpu);

		if (!policy)
			continue;
		if (policy->cpu == cpu)
			held[cpu] = freq_qos_add_request(&policy->constraints, &request[cpu], FREQ_QOS_MAX, khz) >= 0;
		cpufreq_cpu_put(policy);
	}
	return 0;
}

static void __exit ceiling_exit(void)
{
	unsigned int cpu;

	for_each_possible_cpu(cpu)
		if (held[cpu])
			freq_qos_remove_request(&request[cpu]);
}

module_init(ceiling_init);
module_exit(ceiling_exit);
MODULE_DESCRIPTION("a ceiling that somebody else holds, for testing flamed");
MODULE_LICENSE("GPL");
