// SPDX-License-Identifier: GPL-2.0
/*
 * A devfreq GPU with six operating points and an hwmon power sensor, for
 * testing flamed against the kernel's real devfreq and hwmon code.
 *   refuse_errno   if not 0, every change of clock fails with it
 *   writes         how often the clock was changed
 */
#include <linux/cpufreq.h>
#include <linux/devfreq.h>
#include <linux/devfreq_cooling.h>
#include <linux/hwmon.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/pm_opp.h>

static int refuse_errno;
module_param(refuse_errno, int, 0600);
static unsigned int writes;
module_param(writes, uint, 0400);

static const unsigned long opp_hz[] = { 306000000, 408000000, 510000000, 612000000, 816000000, 1020000000 };

static struct platform_device *gpu;
static struct devfreq *devfreq;
static struct device *hwmon;
static struct thermal_cooling_device *cooling; /* NULL: the kernel has no devfreq cooling */
static unsigned long current_hz = 306000000;
static char podgov[] = "simple_ondemand";

static int gpu_target(struct device *dev, unsigned long *freq, u32 flags)
{
	struct dev_pm_opp *opp = devfreq_recommended_opp(dev, freq, flags);

	if (IS_ERR(opp))
		return PTR_ERR(opp);
	dev_pm_opp_put(opp);
	if (refuse_errno)
		return -refuse_errno;
	if (*freq != current_hz)
		writes++;
	current_hz = *freq;
	return 0;
}

static int gpu_status(struct device *dev, struct devfreq_dev_status *status)
{
	status->total_time = 100;
	status->busy_time = 50;
	status->current_frequency = current_hz;
	return 0;
}

static int gpu_cur_freq(struct device *dev, unsigned long *freq)
{
	*freq = current_hz;
	return 0;
}

static struct devfreq_dev_profile profile = {
	.initial_freq = 306000000,
	.polling_ms = 50,
	.target = gpu_target,
	.get_dev_status = gpu_status,
	.get_cur_freq = gpu_cur_freq,
};

static umode_t power_visible(const void *data, enum hwmon_sensor_types type, u32 attr, int channel)
{
	return 0444;
}

/* 3 W, 5 mW a MHz of the GPU and 2 mW a MHz of the CPU. */
static int power_read(struct device *dev, enum hwmon_sensor_types type, u32 attr, int channel, long *value)
{
	*value = 3000000 + (long)(current_hz / 1000000) * 5000 + (long)(cpufreq_quick_get(0) / 1000) * 2000;
	return 0;
}

static const struct hwmon_ops power_ops = { .is_visible = power_visible, .read = power_read };
static const u32 power_config[] = { HWMON_P_INPUT, 0 };
static const struct hwmon_channel_info power_channel = { .type = hwmon_power, .config = power_config };
static const struct hwmon_channel_info *power_info[] = { &power_channel, NULL };
static const struct hwmon_chip_info power_chip = { .ops = &power_ops, .info = power_info };

static void remove_opps(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(opp_hz); i++)
		dev_pm_opp_remove(&gpu->dev, opp_hz[i]);
}

static int __init gpu_init(void)
{
	size_t i;
	int rc;

	gpu = platform_device_register_simple("17000000.gpu", PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(gpu))
		return PTR_ERR(gpu);
	for (i = 0; i < ARRAY_SIZE(opp_hz); i++) {
		rc = dev_pm_opp_add(&gpu->dev, opp_hz[i], 800000);
		if (rc)
			goto err;
	}
	devfreq = devfreq_add_device(&gpu->dev, &profile, podgov, NULL);
	if (IS_ERR(devfreq)) {
		rc = PTR_ERR(devfreq);
		goto err;
	}
	hwmon = hwmon_device_register_with_info(&gpu->dev, "flamed_test", NULL, &power_chip, NULL);
	if (IS_ERR(hwmon)) {
		rc = PTR_ERR(hwmon);
		devfreq_remove_device(devfreq);
		goto err;
	}
	cooling = devfreq_cooling_register(devfreq);
	if (IS_ERR(cooling))
		cooling = NULL;
	return 0;
err:
	remove_opps();
	platform_device_unregister(gpu);
	return rc;
}

static void __exit gpu_exit(void)
{
	if (cooling)
		devfreq_cooling_unregister(cooling);
	hwmon_device_unregister(hwmon);
	devfreq_remove_device(devfreq);
	remove_opps();
	platform_device_unregister(gpu);
}

module_init(gpu_init);
module_exit(gpu_exit);
MODULE_DESCRIPTION("devfreq GPU for testing flamed");
MODULE_LICENSE("GPL");
MODULE_SOFTDEP("pre: governor_simpleondemand");
