#
# Dirty throttle chaos: faults that are not this series'
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

"""
What QEMU 7.2 and KVM do wrong by themselves, each shown or found by a chaos
run. Events keep away from them, unless CHAOS_SHOW names one: then the run that
follows ends with it sooner or later, the same with a QEMU without this series
as far as that knows what is asked of it.
"""

FAULTS = {
    "multifd-snapshot":
        "savevm and loadvm crash with capability multifd on: "
        "multifd_send_sync_main() uses channels that nobody has set up",
    "multifd-broken":
        "when a multifd migration's channels break, or stall while it is "
        "cancelled, its thread waits in multifd_send_sync_main() for ever",
    "dirty-rate-hotplug":
        "calc-dirty-rate counts vCPUs once and uses the number after some "
        "have come or gone: it writes behind an array",
    "reset-overrun":
        "a KVM that emulates firmware in large pieces overruns rings smaller "
        "than 65536 at system_reset and loses pages",
}
