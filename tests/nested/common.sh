# What the scripts of the nested tests share: where things lie.
#
# SPDX-License-Identifier: GPL-2.0-or-later

# shellcheck shell=bash
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/common.sh"

here=$top/tests/nested
packages=$cache/linux
guest_packages=$cache/linux-programs
nested=$build/nested

# What a script ends with when the machine lacks what it needs: not a failure
skipped=77

skip()
{
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit $skipped
}

# The only file that matches, which the caller knows to be there
the_file()
{
    local files=("$@")

    [ ${#files[@]} = 1 ] && [ -e "${files[0]}" ] || die "there is not one ${files[*]}."
    printf '%s\n' "${files[0]}"
}

# 6.1.0-N-cloud-amd64, and the version of the package, once they are fetched
kernel_release()
{
    basename "$(the_file "$packages"/linux-image-*.deb)" |
        sed 's/^linux-image-\([^_]*\)_.*/\1/'
}

kernel_version()
{
    basename "$(the_file "$packages"/linux-image-*.deb)" |
        sed 's/^[^_]*_\([^_]*\)_.*/\1/'
}

# Short name for the content of files and for all other arguments
checksum()
{
    local item

    for item in "$@"; do
        if [ -f "$item" ]; then
            cat "$item"
        else
            printf '%s\n' "$item"
        fi
    done | sha256sum | cut -c 1-16
}
