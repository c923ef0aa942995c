#
# Dirty throttle chaos: faults that are not this series'
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

"""
What QEMU 7.2 and KVM do wrong by themselves. Events keep away from them,
unless CHAOS_SHOW names one: then the run that follows ends with it sooner or
later.
"""

FAULTS = {
    "multifd-snapshot":
        "savevm and loadvm crash with capability multifd on: "
        "multifd_send_sync_main() uses channels that nobody has set up",
    "multifd-broken":
        "when a multifd migration is cancelled or its channels break, its "
        "thread may wait in multifd_send_sync_main() for ever",
    "multifd-joined":
        "multifd_save_cleanup() does not wait for a thread that has said by "
        "a flag that it ends, and frees what that still uses; hardly without "
        "a sanitizer, which makes the thread slow",
    "pause-cancelled":
        "with pause-before-switchover, a migration that is cancelled when it "
        "is about to pause stays \"cancelling\": migration_maybe_pause() looks "
        "at the state before it gives the BQL up, and waits after that",
    "cont-switchover":
        "cont lets the source run on, and keep its disks, while a migration "
        "is being switched over",
    "dirty-rate-twice":
        "calc-dirty-rate makes a second thread if that of the first one has "
        "not begun yet; the second one ends without rcu_unregister_thread(), "
        "and then who waits for RCU's readers may wait for ever",
    "dirty-rate-hotplug":
        "calc-dirty-rate counts vCPUs once and uses the number after some "
        "have come or gone: it writes behind an array",
    "reset-overrun":
        "a KVM that emulates firmware in large pieces overruns rings smaller "
        "than 65536 at system_reset and loses pages",
}
