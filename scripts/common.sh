# What the scripts share: where things lie, and how they talk.
#
# SPDX-License-Identifier: GPL-2.0-or-later

# shellcheck shell=bash
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
build=$top/build
cache=$build/cache
pristine=$build/pristine-7.2
tree=$build/qemu-7.2
qemu_build=$build/7.2
patches=$top/patches/7.2

# The machine's default python3 may be a private one without meson, and one
# with meson must not run under another's libraries: what the distribution
# installed comes first.
export PATH=/usr/bin:/bin:/usr/sbin:/sbin:$PATH

# Messages are looked at here and there, so they must not be translated.
export LC_ALL=C.UTF-8

say()
{
    printf '==> %s\n' "$*"
}

die()
{
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# A full disk shows up as any kind of odd failure, so look before.
need_space()
{
    local free

    mkdir -p "$build"
    free=$(df -Pm "$build" | awk 'NR == 2 { print $4 }')
    [ "$free" -ge "$1" ] ||
        die "$2 needs $1 MB of free space below $build, and there are only $free MB."
}
