# SPDX-License-Identifier: MIT
# Limits of the kernel itself: boost, the firmware's bios_limit, processors' cooling devices, devfreq cooling, policies
# offline while clocks are restored, suspend. Each is made by the kernel, and all knobs are restored in the end.
import glob
import os

from guest_lib import *

TURBO = "/sys/module/flamed_test_turbo/parameters/khz"
FIRMWARE = "/sys/module/flamed_test_firmware/parameters/ppc"
FULL, PART = 2000000, 1200000


def maxima():
    return {read(p) for p in glob.glob(CPU + "/policy*/scaling_max_freq")}


def coolers(word):
    return [os.path.dirname(p) for p in sorted(glob.glob("/sys/class/thermal/cooling_device*/type")) if word in read(p)]


def state(client, clock="cpu"):
    return client.ask(op="status")["clock." + clock + ".state"]


def turbo():
    run("modprobe flamed_test_turbo")
    before = knobs()
    client, session = busy_client()
    write(TURBO, PART)
    ok({read(p) for p in glob.glob(CPU + "/policy*/cpuinfo_max_freq")} == {str(PART)},
       "boost goes off while clocks are held")
    for deadline_ms in (60, 130, 400, 60):
        begun, _ = request(client, session, deadline_ms)
    ok(state(client) == "ok", "that is nobody's write", client.ask(op="status")["state_reason"])
    client.close()
    ok(wait_for(lambda: not os.path.exists(JOURNAL)) and maxima() == {str(PART)},
       "given back as far as the hardware goes", maxima())
    write(TURBO, FULL)
    ok(wait_for(lambda: knobs() == before), "boost on again: every knob as found", difference(before))
    write(TURBO, PART)  # and off before a session begins
    client, session = busy_client()
    client.close()
    ok(wait_for(lambda: not os.path.exists(JOURNAL)) and maxima() == {str(PART)}, "boost off all the while: given back",
       maxima())
    write(TURBO, FULL)
    ok(wait_for(lambda: knobs() == before), "and all of it is there when boost comes on", difference(before))
    run("rmmod flamed_test_turbo")


def bios_limits():
    return {read(p) for p in glob.glob(CPU + "/policy*/bios_limit")}


def bios_limit():
    """acpi-cpufreq's own: the firmware's _PPC, which it is notified of."""
    run("modprobe flamed_test_firmware")
    before = knobs()
    client, session = busy_client()
    write(FIRMWARE, 2)
    ok(wait_for(lambda: bios_limits() == {str(PART)}), "the firmware limits the clocks while they are held",
       bios_limits())
    for _ in range(4):
        begun, _ = request(client, session, 60)
    ok(state(client) == "ok" and begun["cpu_hz"] == "1200000000", "bios_limit is a ceiling, and nobody's write",
       (begun, maxima(), client.ask(op="status")["state_reason"]))
    client.close()
    ok(wait_for(lambda: not os.path.exists(JOURNAL)) and maxima() == {str(PART)},
       "given back as far as the firmware permits", maxima())
    client, session = busy_client()  # under the limit from the beginning
    client.close()
    ok(wait_for(lambda: not os.path.exists(JOURNAL)) and maxima() == {str(PART)}, "limited all the while: given back",
       maxima())
    write(FIRMWARE, 0)
    ok(wait_for(lambda: bios_limits() == {str(FULL)} and knobs() == before),
       "the firmware permits all again: every knob as found", difference(before))
    run("rmmod flamed_test_firmware")


def processor_cooling():
    run("modprobe flamed_test_cooling")
    found = coolers("cpufreq-cpu")
    before = knobs()
    client, session = busy_client()
    for cooler in found:
        write(cooler + "/cur_state", 2)
    for _ in range(4):
        begun, _ = request(client, session, 60)
    ok(state(client) == "ok" and begun["cpu_hz"] == "1200000000", "cooling while clocks are held is a ceiling",
       (found, begun, maxima()))
    client.close()
    ok(wait_for(lambda: not os.path.exists(JOURNAL)) and maxima() == {str(PART)}, "given back as far as cooling goes",
       maxima())
    for cooler in found:
        write(cooler + "/cur_state", 0)
    ok(wait_for(lambda: knobs() == before), "cooling ends: every knob as found", difference(before))
    run("rmmod flamed_test_cooling")


def devfreq_cooling():
    found = coolers("devfreq")
    if not found:
        skip("devfreq cooling", "this kernel is built without CONFIG_DEVFREQ_THERMAL")
        return
    before = knobs()
    client, session = busy_client()
    write(found[0] + "/cur_state", 3)
    for _ in range(4):
        begun, _ = request(client, session, 60)
    ok(state(client, "gpu") == "ok" and int(begun["gpu_hz"]) < 1020000000, "devfreq cooling is a ceiling of the GPU",
       (begun, clocks()))
    ok(state(client, "cpu") == "ok", "and of nothing else")
    write(found[0] + "/cur_state", 0)
    client.close()
    ok(restored(before), "it ends, the session too: every knob as found", difference(before))


def offline_while_given_back():
    before = knobs()
    client, session = busy_client()
    write("/sys/devices/system/cpu/cpu1/online", 0)
    client.close()
    rest = {p: v for p, v in before.items() if "/policy1/" not in p}
    ok(wait_for(lambda: {p: read(p) for p in rest} == rest),
       "a policy is offline when clocks are given back: the others are as found",
       difference(rest))
    run("systemctl restart flamed")
    ok(wait_for(lambda: unit("flamed.service", "ActiveState") == "active"), "flamed starts again meanwhile")
    client, session = busy_client()
    client.close()
    write("/sys/devices/system/cpu/cpu1/online", 1)
    ok(wait_for(lambda: knobs() == before), "the policy returns: every knob as found", difference(before))
    ok(wait_for(lambda: not os.path.exists(JOURNAL)), "and nothing is owed", read(JOURNAL))


def suspend():
    # Processes and devices are suspended as for suspend to idle, cpufreq and devfreq with them, and
    # return after 5 s: no clock
    # of this machine would wake it.
    if "freeze" not in read("/sys/power/state") or "devices" not in (read("/sys/power/pm_test") or ""):
        skip("suspend to idle", "no freeze in /sys/power/state, or a kernel without CONFIG_PM_SLEEP_DEBUG")
        return
    before = knobs()
    client, session = busy_client()
    # Unlike a real suspend this one does not stop the monotonic clock, which systemd's watchdog uses.
    run("systemctl service-watchdogs no")
    write("/sys/power/pm_test", "devices")
    write("/sys/power/state", "freeze")
    write("/sys/power/pm_test", "none")
    run("systemctl service-watchdogs yes")
    ok("PM: suspend exit" in run("dmesg")[1], "suspended, and awake again")
    begun, _ = request(client, session, 130)
    ok(wait_for(lambda: clocks()[0] == {(int(begun["cpu_hz"]),) * 2}), "clocks stand after a suspend",
       (clocks(), begun))
    client.close()
    ok(restored(before), "after a suspend: every knob as found", difference(before))


def run_all():
    for test in (turbo, bios_limit, processor_cooling, devfreq_cooling, offline_while_given_back, suspend):
        test()
