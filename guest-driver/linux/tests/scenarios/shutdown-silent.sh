# SPDX-License-Identifier: GPL-2.0-only
# Reboot while a flush is out that the host never answers: the memory's users flush before the driver's shutdown is
# called, and must not wait for ever either. What the driver says then comes after the verdict; the host's side
# waits for it, and for the end.
load_driver remove_timeout_ms=3000
insmod /modules/flusher.ko threads=6 fua_threads=2 fua_sector=2048
wait_for "20 flushes" at_least 20 flusher done
echo 1 >$FAULTS/drop_completion
lost() {
	[ "$(cat $FAULTS/drop_completion)" = 0 ]
}
wait_for "an answer to be lost" lost
expect "messages about a broken device" 0 "$(logged 'broken:')"
