# SPDX-License-Identifier: GPL-2.0-only
# Indirect descriptors are declined, as the ring would allocate for each of them; and each request is
# put into the ring by one call and followed by one kick.
INDIRECT_DESC=28
echo 'p:added virtqueue_add_sgs' >/sys/kernel/tracing/kprobe_events || fail "no kprobes"
echo 'p:kicked virtqueue_kick' >>/sys/kernel/tracing/kprobe_events || fail "no kprobes"
echo 1 >/sys/kernel/tracing/events/kprobes/enable
load_driver
insmod /modules/flusher.ko threads=4
wait_for "100 flushes" at_least 100 flusher done
rmmod flusher
hits() {
	awk -v name="$1" '$1 == name { print $2 }' /sys/kernel/tracing/kprobe_profile
}
features=$(cat /sys/bus/virtio/devices/$DEVICE/features)
expect "VERSION_1, as a check of the bits' order" 1 "$(echo "$features" | cut -c33)"
expect "INDIRECT_DESC" 0 "$(echo "$features" | cut -c$((INDIRECT_DESC + 1)))"
measure host_flushes "$(counter host_flushes)"
expect "requests put into the ring" "$(counter host_flushes)" "$(hits added)"
expect kicks "$(counter host_flushes)" "$(hits kicked)"
