#!/bin/sh
# The guest's first process: mounts what programs expect, loads virtio, starts an agent on each agent port.
export PATH=/usr/bin:/bin HOME=/root TERM=dumb
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t debugfs debug /sys/kernel/debug
mount -t tracefs trace /sys/kernel/tracing
hostname guest
ip link set lo up
for module in virtio_pci virtio_console; do
    modprobe $module
done
for argument in $(cat /proc/cmdline); do
    case $argument in
        igb_vm.load=*) for module in $(echo "${argument#*=}" | tr , ' '); do modprobe "$module"; done ;;
    esac
done
for port in /sys/class/virtio-ports/*; do
    [ -e "$port/name" ] || continue # the terminal's has none
    read -r name < "$port/name"
    case $name in
        agent*) /usr/lib/agent "$name" "/dev/${port##*/}" < /dev/null & ;;
    esac
done
if grep -q -w igb_vm.shell /proc/cmdline; then
    # A shell for a person, on a virtio console of its own; the guest goes off when they leave it.
    { cd /root; PS1='guest# ' setsid -c /bin/sh -i < /dev/hvc0 > /dev/hvc0 2>&1; poweroff -f; } &
fi
echo "init: done at $(cut -d' ' -f1 /proc/uptime) s"
# Adopt and reap whatever a command leaves behind, for ever.
while :; do
    wait
    sleep 1
done
