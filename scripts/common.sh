# What the scripts share: the base, where things lie, and how they talk.
#
# SPDX-License-Identifier: GPL-2.0-or-later

# shellcheck shell=bash
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
build=$top/build
cache=$build/cache

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

# A base is a release of QEMU that the series is made for, and a directory of
# patches/; $BASE names it. All others are derived from another one, so what
# there is without $BASE is the one that is not.
base=${BASE:-$(cd "$top/patches" && grep -L '^from=' */base | cut -d / -f 1)}
own_patches=$top/patches/$base
[ -f "$own_patches/base" ] ||
    die "there is no base '$base'; there are $(cd "$top/patches" && echo *)."

# What the base says of itself: base_says KEY
base_says()
{
    sed -n "s/^$1=//p" "$own_patches/base"
}

from=$(base_says from)
pristine=$build/pristine-$base
tree=$build/qemu-$base
qemu_build=$build/$base

# Added files and patches as the base has them; and what is appended to the
# name of a directory that each base has one of
if [ -n "$from" ]; then
    source=$build/source-$base
    suffix=-$base
else
    source=$top
    suffix=
fi
patches=$source/patches/$base

# The base's version as a regular expression
base_regex=${base//./\\.}
