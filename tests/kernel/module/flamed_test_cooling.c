// SPDX-License-Identifier: GPL-2.0
/*
 * A cooling device for every cpufreq policy, as CONFIG_CPU_THERMAL makes them on
 * Arm: each state lowers the policy's ceiling by a QoS request.
 */
#include <linux/cpu.h>
#include <linux/cpufreq.h>
#include <linux/module.h>
#include <linux/pm_qos.h>
#include <linux/thermal.h>

static const s32 state_khz[] = { FREQ_QOS_MAX_DEFAULT_VALUE, 1600000, 1200000, 800000 };

static struct cooler {
	struct thermal_cooling_device *device;
	struct freq_qos_request request;
	unsigned long state;
} cooler[NR_CPUS];

static int cooler_max(struct thermal_cooling_device *device, unsigned long *state)
{
	*state = ARRAY_SIZE(state_khz) - 1;
	return 0;
}

static int cooler_get(struct thermal_cooling_device *device, unsigned long *state)
{
	struct cooler *c = device->devdata;

	*state = c->state;
	return 0;
}

static int cooler_set(struct thermal_cooling_device *device, unsigned long state)
{
	struct cooler *c = device->devdata;
	int rc;

	if (state >= ARRAY_SIZE(state_khz))
		return -EINVAL;
	rc = freq_qos_update_request(&c->request, state_khz[state]);
	if (rc < 0)
		return rc;
	c->state = state;
	return 0;
}

static const struct thermal_cooling_device_ops cooler_ops = {.get_max_state = cooler_max,
							     .get_cur_state = cooler_get,
							     .set_cur_state = cooler_set};

static int __init cooling_init(void)
{
	unsigned int cpu;
	char type[THERMAL_NAME_LENGTH];

	for_each_online_cpu(cpu) {
		struct cpufreq_policy *policy = cpufreq_cpu_get(cpu);
		struct cooler *c = &cooler[cpu];

		if (!policy)
			continue;
		snprintf(type, sizeof(type), "cpufreq-cpu%u", cpu);
		if (policy->cpu == cpu &&
		    freq_qos_add_request(&policy->constraints, &c->request, FREQ_QOS_MAX, state_khz[0]) >= 0) {
			c->device = thermal_cooling_device_register(type, c, &cooler_ops);
			if (IS_ERR(c->device)) {
				freq_qos_remove_request(&c->request);
				c->device = NULL;
			}
		}
		cpufreq_cpu_put(policy);
	}
	return 0;
}

static void __exit cooling_exit(void)
{
	unsigned int cpu;

	for_each_possible_cpu(cpu)
		if (cooler[cpu].device) {
			thermal_cooling_device_unregister(cooler[cpu].device);
			freq_qos_remove_request(&cooler[cpu].request);
		}
}

module_init(cooling_init);
module_exit(cooling_exit);
MODULE_DESCRIPTION("cooling devices of processors, for testing flamed");
MODULE_LICENSE("GPL");
