# Packages of another suite than the system's, fetched but not installed.
#
# The system's own package sources say where from: lists of our own are derived
# from them, and they stay as they are.
#
# SPDX-License-Identifier: GPL-2.0-or-later

# shellcheck shell=bash
apt=$cache/apt
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")

# apt-get and apt-cache take these; use_suite has to come first.
options=(-o "Dir::Etc::sourcelist=/dev/null"
         -o "Dir::Etc::sourceparts=$apt/sources.list.d"
         -o "Dir::State::lists=$apt/lists"
         -o "Dir::Cache=$apt"
         -o "APT::Sandbox::User=$(id -un)"
         -o "Acquire::Retries=3"
         -o "Acquire::Languages=none")

# Entries of a type with another suite in place of the system's:
# use_suite deb|deb-src SUITE. A release, like `sid`, also stands in the place of
# the system's in names like `bookworm-updates`; any other suite for all of it.
use_suite()
{
    local parts=$apt/sources.list.d list sources
    # Only Debian's own suites: what others offer is of no use here, and asking
    # them takes time.
    local suite="($codename|stable|oldstable)(-[a-z]+)*"
    local rename='{
        for (i = 1; i <= NF; i++) {
            if ($i ~ "^" suite "$") {
                sub(to ~ /-/ ? ".*" : "^[a-z]+", to, $i)
            }
        }
        print
    }'

    rm -rf "$apt"
    mkdir -p "$parts" "$apt/lists/partial" "$apt/archives/partial"
    for list in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ -f "$list" ] || continue
        sed -nE "/[[:space:]]$suite[[:space:]]/s/^[[:space:]]*deb([[:space:]])/$1\1/p" "$list" |
            awk -v suite="$suite" -v to="$2" "$rename" >"$parts/$(basename "$list" .list).list"
    done
    for sources in /etc/apt/sources.list.d/*.sources; do
        [ -f "$sources" ] || continue
        awk -v suite="(^|\n)Suites:([^\n]*[ \t])?$suite([ \t\n]|\$)" -v types="$1" '
            BEGIN { RS = ""; ORS = "\n\n" }
            $0 ~ suite { sub(/(^|\n)Types:[^\n]*/, "\nTypes: " types); print }
        ' "$sources" |
            awk -v suite="$suite" -v to="$2" "$rename" >"$parts/$(basename "$sources")"
    done
    grep -rqE "^($1|Types: $1)" "$parts" ||
        die "no package source of Debian is configured below /etc/apt to derive an entry from."
}
