s,"sysemu/,"system/,g
s,\bqemu_mutex_lock_iothread(),bql_lock(),g
s,\bqemu_mutex_unlock_iothread(),bql_unlock(),g
s,\bqemu_mutex_iothread_locked(),bql_locked(),g
s,"qapi/qmp/q\(bool\|dict\|list\|null\|num\|object\|string\)\.h","qobject/q\1.h",g
s,\bsoftmmu_ss\b,system_ss,g
s,\bmemory_global_dirty_log_sync(),memory_global_dirty_log_sync(false),g
s,\bmigrate_use_events(),migrate_events(),g
s,/devel/dirty-throttle`,/devel/migration/dirty-throttle`,g
s,``system/dirtylimit\.c``                 QMP,``system/dirtylimit.c``                  QMP,
s,\btargetos\b,host_os,g
s,  *info->has_\(reaper\|forecast\) = info->\1 != NULL;,,
/memory_global_dirty_log_start(GLOBAL_DIRTY_LIMIT);/{s,memory_global_dirty_log_start(GLOBAL_DIRTY_LIMIT);,return memory_global_dirty_log_start(GLOBAL_DIRTY_LIMIT\,,;n;s,    return true;,                                         errp);,}
s,\.command(,.cmd(,g
s,\btests/migration: ,tests/migration-stress: ,g
/^# Since: 8\.0$/s,8\.0,10.1,
s,"hw/pci/pci\.h","hw/pci/pci_device.h",g
s,dc->reset = \(\w*\);,device_class_set_legacy_reset(dc\, \1);,
s,-runas \(\w*\),-run-with user=\1,g
