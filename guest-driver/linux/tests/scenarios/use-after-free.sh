# SPDX-License-Identifier: GPL-2.0-only
# Of a build that reads its last request after it has freed it, in Rust: KASAN has to say so.
load_driver
filesystem ext4 "-F -b 4096"
unbind
