# SPDX-License-Identifier: MIT
# Runs once at boot; the stage of the kernel command line says which tests.
#   1  package, service, requests on real clocks, faults, restore matrix, sandbox; removed and purged at the end
#   2  clocks moved, then the power goes
#   3  after the power loss
import os
import sys
import time
import traceback

from guest_lib import *
import guest_clocks
import guest_restore
import guest_system


def power_loss():
    # The package of stage 1 was purged: install again, move clocks, then reset.
    guest_system.install()
    client, _ = busy_client()
    ok(os.path.exists(JOURNAL), "clocks are moved and the journal is on disk")
    os.sync()
    ok(True, "the power goes")
    sys.stdout.flush()
    time.sleep(1)
    write("/proc/sysrq-trigger", "b")
    client.close() # never


def after_power_loss():
    ok(wait_for(lambda: unit("flamed.service", "ActiveState") == "active"), "flamed runs after the power loss")
    cpu, _ = clocks()
    ok(cpu == {(400000000, 2000000000)}, "knobs are the kernel's defaults", cpu)
    before = knobs()
    client, _ = busy_client()
    said = journal_text("flamed-keeper") + journal_text("flamed")
    ok("another boot" in said or "earlier boot" in said, "the stale journal was recognised by its boot id", said[-1500:])
    client.close()
    ok(restored(before), "and the knobs are handed back as found", difference(before))


try:
    if stage() == 1:
        guest_system.installation()
        guest_clocks.run_all()
        guest_restore.run_all()
        guest_system.run_all()
    elif stage() == 2:
        power_loss()
    else:
        after_power_loss()
except Exception:
    ok(False, "the tests ran to their end", traceback.format_exc() + journal_text()[-2000:] + journal_text("flamed-keeper")[-1000:])
print("# end of stage")
sys.stdout.flush()
os.sync()
