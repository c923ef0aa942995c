#
# Dirty throttle tests: libraries that are preloaded into QEMU
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import os
import struct
import subprocess
import tempfile

from dataclasses import astuple, dataclass
from pathlib import Path

# Threads need names: that of the reaper tells it from the others
QEMU_ARGS = ("-name", "bench,debug-threads=on")


def build(directory: str, *sources: str) -> str:
    """Make a library of C files of this directory; the path of the library"""
    library = os.path.join(directory,
                           Path(sources[0]).with_suffix(".so").name)
    subprocess.run([os.environ.get("CC", "gcc"), "-O2", "-Wall", "-Werror",
                    "-shared", "-fPIC", "-o", library] +
                   [str(Path(__file__).with_name(s)) for s in sources],
                   check=True)
    return library


def withholding(directory: str) -> tuple[str, ...]:
    """What comes before a QEMU that is to have no statistics of KVM's"""
    library = os.path.join(directory, "faults-shim.so")
    if not os.path.exists(library):
        build(directory, "faults-shim.c")
    return ("env", "LD_PRELOAD=" + library, "FAULTS_SHIM_WITHHOLD=1",
            "FAULTS_SHIM_LOG=" + os.path.join(directory, "withheld"))


@dataclass(frozen=True)
class KvmShimCounters:
    """What kvm-shim.c counts; see kvm-shim.h"""
    ring_size: int
    full: int
    handled: int
    handled_ns: int
    handled_cpu_ns: int
    handled_max_ns: int
    resets: int
    reset_entries: int
    reaper_entries: int
    shortened: int

    def since(self, earlier: "KvmShimCounters") -> "KvmShimCounters":
        """By how much they have grown; those that do not grow stay"""
        grown = [now - before for now, before
                 in zip(astuple(self), astuple(earlier))]
        return KvmShimCounters(*grown[:5], self.handled_max_ns, *grown[6:])


_LAYOUT = struct.Struct("10Q")
_MAX_OFFSET = 5 * 8


class KvmShim:
    """
    Counts what a QEMU asks of KVM's dirty rings, with the reaper as it is or
    with a gear table
    """

    def __init__(self, gears: bool = False):
        self._gears = gears
        self._file = os.memfd_create("kvm-shim")
        os.ftruncate(self._file, _LAYOUT.size)

    def __enter__(self) -> "KvmShim":
        # QEMU has it mapped before the file is gone
        self._dir = tempfile.TemporaryDirectory()
        self._library = build(self._dir.name, "kvm-shim.c", "gears-shim.c")
        return self

    def __exit__(self, *args: object) -> None:
        self._dir.cleanup()
        os.close(self._file)

    def wrapper(self) -> tuple[str, ...]:
        """What comes before QEMU on its command line"""
        words = ["LD_PRELOAD=" + self._library, "KVM_SHIM_COUNTERS="
                 "/proc/%d/fd/%d" % (os.getpid(), self._file)]
        if self._gears:
            words.append("KVM_SHIM_GEARS=1")
        return ("env", *words)

    def read(self) -> KvmShimCounters:
        return KvmShimCounters(*_LAYOUT.unpack(
            os.pread(self._file, _LAYOUT.size, 0)))

    def new_maximum(self) -> None:
        os.pwrite(self._file, bytes(8), _MAX_OFFSET)
