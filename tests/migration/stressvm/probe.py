#
# VMs with the stress guest: what this machine and a QEMU binary can do
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import ctypes
import errno
import fcntl
import functools
import os
import struct
import subprocess

from pathlib import Path

from qemu.machine import QEMUMachine

# From linux/kvm.h
_KVM_GET_API_VERSION = 0xae00
_KVM_CHECK_EXTENSION = 0xae03
_KVM_GET_SUPPORTED_CPUID = 0xc008ae05
_KVM_CAP_DIRTY_LOG_RING = 192
_KVM_CAP_BINARY_STATS_FD = 203
_KVM_CAP_DIRTY_QUOTA = 1000
_KVM_API_VERSION = 12
_RING_ENTRY_BYTES = 16

# struct kvm_cpuid2, with more entries than there are leaves, and one of them
_CPUID_HEADER = struct.Struct("2I")
_CPUID_ENTRY = struct.Struct("10I")
_CPUID_ENTRIES = 256

# From asm/kvm_para.h: the leaf with KVM's features for guests, and two of them
_KVM_CPUID_FEATURES = 0x40000001
_KVM_STEAL_TIME_AND_PV_EOI = 1 << 5 | 1 << 6

_SYS_IO_URING_SETUP = 425

_ROOT = Path(__file__).resolve().parents[3]

# A binary that was built in its tree, like most peers, does not find the
# firmware that the distribution has installed
_FIRMWARE = ("multiboot_dma.bin", "qboot.rom", "kvmvapic.bin")
_FIRMWARE_DIRS = ("/usr/share/qemu", "/usr/share/seabios")


def default_binary() -> str:
    """The binary that is tested: $QEMU_BINARY, or the one 'make' builds"""
    return os.environ.get(
        "QEMU_BINARY", str(_ROOT / "build" / "qemu-system-x86_64"))


def build_dir() -> Path:
    return _ROOT / "build"


def _ask_kvm(request: int, argument: int = 0) -> int:
    fd = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    try:
        return fcntl.ioctl(fd, request, argument)
    finally:
        os.close(fd)


def kvm_available() -> bool:
    try:
        return _ask_kvm(_KVM_GET_API_VERSION) == _KVM_API_VERSION
    except OSError:
        return False


def ring_available() -> int:
    """The most entries a dirty ring may have, 0 if KVM has none"""
    try:
        size = _ask_kvm(_KVM_CHECK_EXTENSION, _KVM_CAP_DIRTY_LOG_RING)
    except OSError:
        return 0
    return size // _RING_ENTRY_BYTES


def has_dirty_quota() -> bool:
    """Whether KVM has the dirty quota of this repository's kernel patch"""
    return _ask_kvm(_KVM_CHECK_EXTENSION, _KVM_CAP_DIRTY_QUOTA) > 0


def has_statistics() -> bool:
    """Whether KVM has statistics of vCPUs, in which page faults are"""
    return _ask_kvm(_KVM_CHECK_EXTENSION, _KVM_CAP_BINARY_STATS_FD) > 0


def has_paravirt() -> bool:
    """Whether KVM writes steal time and ends of interrupts into guests"""
    cpuid = bytearray(_CPUID_HEADER.pack(_CPUID_ENTRIES, 0).ljust(
        _CPUID_HEADER.size + _CPUID_ENTRIES * _CPUID_ENTRY.size, b"\0"))
    fd = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _KVM_GET_SUPPORTED_CPUID, cpuid)
    finally:
        os.close(fd)
    # function, index, flags, eax, ...
    features = {entry[0]: entry[3] for entry in
                _CPUID_ENTRY.iter_unpack(cpuid[_CPUID_HEADER.size:])}
    wanted = _KVM_STEAL_TIME_AND_PV_EOI
    return features.get(_KVM_CPUID_FEATURES, 0) & wanted == wanted


def has_io_uring() -> bool:
    """Whether the kernel has io_uring, and lets us use it"""
    libc = ctypes.CDLL(None, use_errno=True)
    # No ring has no entries: EINVAL, if there are rings at all
    libc.syscall(_SYS_IO_URING_SETUP, 0, None)
    return ctypes.get_errno() not in (errno.ENOSYS, errno.EPERM)


@functools.lru_cache(maxsize=None)
def capabilities(binary: str) -> frozenset[str]:
    """The migration capabilities that a binary knows"""
    # Packages may keep TCG in a module, away from their binary
    with QEMUMachine(binary, args=["-machine", "none,accel=kvm:tcg",
                                   "-nodefaults", "-S"],
                     qmp_timer=30) as vm:
        vm.launch()
        return frozenset(entry["capability"] for entry in
                         vm.command("query-migrate-capabilities"))


def has_capability(binary: str, name: str) -> bool:
    return name in capabilities(binary)


@functools.lru_cache(maxsize=None)
def has_device(binary: str, name: str) -> bool:
    """Whether a binary has a device of that type"""
    known = subprocess.run([binary, "-device", "help"], stdout=subprocess.PIPE,
                           text=True, timeout=30, check=True).stdout
    return 'name "%s"' % name in known


@functools.lru_cache(maxsize=None)
def firmware_args(binary: str) -> tuple[str, ...]:
    """-L options, if the binary does not find its firmware by itself"""
    found = subprocess.run([binary, "-L", "help"], stdout=subprocess.PIPE,
                           text=True, timeout=30, check=True).stdout.split()
    if all(any(os.path.exists(os.path.join(path, name)) for path in found)
           for name in _FIRMWARE):
        return ()
    return tuple(word for path in _FIRMWARE_DIRS for word in ("-L", path))
