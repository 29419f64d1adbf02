# SPDX-License-Identifier: GPL-2.0-only
# Reboot while kernel threads flush: the driver's shutdown ends them with errors and lets the system go.
load_driver
insmod /modules/flusher.ko threads=6 fua_threads=2 fua_sector=2048
wait_for "20 flushes" at_least 20 flusher done
