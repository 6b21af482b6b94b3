# SPDX-License-Identifier: MIT
# Runs once at boot; the stage on the kernel command line selects the tests.
#   1  package, service, requests on real clocks, faults, restore matrix, sandbox; removed and purged at the end
#   2  the power fails when the journal is on disk and no knob was written yet
#   3  the boot after that; then the power fails with the clocks moved
#   4  the boot after that
import ctypes
import os
import struct
import sys
import threading
import time
import traceback

from guest_lib import *
import guest_clocks
import guest_holds
import guest_restore
import guest_system


FAN_CLASS_CONTENT, FAN_MARK_ADD, FAN_MARK_FILESYSTEM, FAN_OPEN_PERM, FAN_ALLOW, AT_FDCWD = 4, 1, 0x100, 0x10000, 1, -100
EVENT = struct.Struct("=IBBHQii")  # fanotify_event_metadata


def reset():
    sys.stdout.flush()
    os.sync()
    time.sleep(1)
    write("/proc/sysrq-trigger", "b")


def saved():
    """Knobs that the journal holds."""
    try:
        with open(JOURNAL) as f:
            return {os.path.realpath(line.split()[2]) for line in f if line.startswith("save ")}
    except OSError:
        return set()


class Gate(threading.Thread):
    """Lets everything under /sys be opened but a knob that the keeper has saved: that stays without an answer."""

    def __init__(self, keeper):
        super().__init__(daemon=True)
        self.keeper, self.path, self.shut = keeper, None, threading.Event()
        libc = ctypes.CDLL(None, use_errno=True)
        self.fan = libc.fanotify_init(FAN_CLASS_CONTENT, os.O_RDONLY)
        if self.fan < 0 or libc.fanotify_mark(self.fan, FAN_MARK_ADD | FAN_MARK_FILESYSTEM,
                                              ctypes.c_uint64(FAN_OPEN_PERM), AT_FDCWD, b"/sys") < 0:
            raise OSError(ctypes.get_errno(), "fanotify")

    def run(self):
        while True:
            data = os.read(self.fan, 4096)
            for at in range(0, len(data), EVENT.size):
                _, _, _, _, _, fd, pid = EVENT.unpack_from(data, at)
                path = os.readlink(f"/proc/self/fd/{fd}")
                if pid == self.keeper and path in saved():
                    self.path = path
                    self.shut.set()
                    continue
                os.write(self.fan, struct.pack("=iI", fd, FAN_ALLOW))
                os.close(fd)


def power_loss_before_write():
    # The package of stage 1 was purged: install again, ask for clocks, stop the keeper short of its first write.
    guest_system.install()
    before = knobs()
    client = Client() # the keeper runs once flamed does
    ok(wait_for(lambda: main_pid("flamed-keeper.service") > 0), "the keeper runs")
    gate = Gate(main_pid("flamed-keeper.service"))
    gate.start()
    session = client.open()
    client.send(op="begin", session=session, deadline_ns=10**10, wait=1)
    ok(gate.shut.wait(60), f"the journal is on disk, the keeper about to open {gate.path}")
    ok(knobs() == before, "and no knob is written yet", difference(before))
    print("# | the power goes", flush=True)
    reset()
    client.close() # never


def power_loss():
    client, _ = busy_client()
    ok(os.path.exists(JOURNAL), "clocks are moved and the journal is on disk")
    print("# | the power goes", flush=True)
    reset()
    client.close() # never


def after_power_loss():
    ok(wait_for(lambda: unit("flamed.service", "ActiveState") == "active"), "flamed runs after the power loss")
    cpu, _ = clocks()
    ok(cpu == {(400000000, 2000000000)}, "knobs are the kernel's defaults", cpu)
    before = knobs()
    client, _ = busy_client()
    said = journal_text("flamed-keeper") + journal_text("flamed")
    ok("another boot" in said or "earlier boot" in said, "the stale journal was recognised by its boot id",
       said[-1500:])
    client.close()
    ok(restored(before), "and the knobs are handed back as found", difference(before))


try:
    if stage() == 1:
        guest_system.installation()
        guest_clocks.run_all()
        guest_holds.run_all()
        guest_restore.run_all()
        guest_system.run_all()
    elif stage() == 2:
        power_loss_before_write()
    else:
        after_power_loss()
        if stage() == 3:
            power_loss()
except Exception:
    ok(False, "the tests ran to their end", traceback.format_exc() + journal_text()[-2000:]
       + journal_text("flamed-keeper")[-1000:])
print("# end of stage")
sys.stdout.flush()
os.sync()
