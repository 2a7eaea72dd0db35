#!/bin/sh
# The first process of the virtual machine: see machine.py. Everything that it changes is in memory.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/run LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/shm
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
export TMPDIR=/run # /tmp stays what it is outside: the checkout may be in there
mount -t configfs configfs /sys/kernel/config 2>/dev/null
for module in $(echo "$EA_MODULES" | tr , ' '); do modprobe -d "$EA_KERNEL" "$module" || echo "no module $module"; done
mount -t configfs configfs /sys/kernel/config 2>/dev/null
sh "$EA_RUN" </dev/null
echo "edgeagent-vm-exit $?"
sync
echo o > /proc/sysrq-trigger
sleep 10
