#
# The stress guest: its command line, and its counters
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

"""
Run the stress guest and read what it counts while it runs.

The guest keeps its counters in its own RAM. QEMU must keep that RAM in a file:

    -object memory-backend-file,id=ram,size=1G,mem-path=FILE,share=on
    -machine memory-backend=ram

StressGuest(FILE) then reads them without the guest's or QEMU's help, and so
without slowing either. The layout is in
tests/migration/stress-guest/README.rst.
"""

import os
import struct
import time

from dataclasses import dataclass
from pathlib import Path

from stressvm.waiting import wait_until


COUNTERS = 0x80000
PAGE_SIZE = 4096
MAX_VCPUS = 16
MAGIC = int.from_bytes(b"STSGUEST", "little")
VERSION = 3

BOOTING, RUNNING, ERROR = range(3)
ROLES = ("idle", "writer", "reader", "hot", "burst", "wakeups",
         "screen", "disk", "balloon", "latency", "locker", "rogue", "asker")

# In a vCPU's page: its line of the device pvsched, and its waits
LINE_OFFSET = 1024
_WAITS_OFFSET = 2048
_WAITS = struct.Struct("<Q352I")
_BUCKET_NS = 64
# So many buckets for each doubling
_BUCKETS = 16

# The header, in units of 8 bytes
_MAGIC, _VERSION_NR_VCPUS, _TSC_KHZ, _STATE, _EPOCH = range(5)

# A wanted role: a number, the rate, the role
_WANTED_RATE_SHIFT, _WANTED_NUMBER_SHIFT = 8, 48
WANTED_ROLES = ("writer", "reader", "hot")

# How often to look again for a block that its vCPU is just changing. After
# that the vCPU stands still, and what is there will not get any better.
_SNAPSHOT_TRIES = 1000


class StressGuestError(Exception):
    pass


# What may follow a role's name
_KEYS = ("rate", "mb", "pages", "on", "off", "remap", "interval", "work",
         "hold", "writes", "pvsched")


@dataclass(frozen=True)
class Role:
    """What one vCPU shall do; None is the guest's default"""
    kind: str
    rate: int | None = None         # Operations per second; 0 for no limit,
                                    # but in wakeups, screen and locker
    mb: int | None = None           # Size in MiB, for most
    pages: int | None = None        # hot, screen: size in pages
    on: int | None = None           # burst: milliseconds of work
    off: int | None = None          # burst: milliseconds of silence
    remap: int | None = None        # screen: 1 to remap it after each pass
    interval: int | None = None     # latency: microseconds between wakeups
    work: int | None = None         # latency: microseconds of work after one
    hold: int | None = None         # locker: microseconds with the lock
    writes: int | None = None       # locker: pages that it writes meanwhile
    pvsched: int | None = None      # 1 to tell the host what it does

    _KEYS = {
        "idle": (),
        "writer": ("rate", "mb"),
        "reader": ("rate", "mb"),
        "hot": ("rate", "pages"),
        "burst": ("rate", "mb", "on", "off"),
        "wakeups": ("rate",),
        "screen": ("rate", "pages", "remap"),
        "disk": ("rate", "mb"),
        "balloon": ("rate", "mb"),
        "latency": ("interval", "work", "pvsched"),
        "locker": ("rate", "mb", "hold", "writes", "pvsched"),
        "rogue": ("pvsched",),
        "asker": ("pvsched",),
    }

    def __post_init__(self):
        if self.kind not in ROLES:
            raise StressGuestError("unknown role '%s', must be one of %s" %
                                   (self.kind, ", ".join(ROLES)))
        for key in _KEYS:
            if (getattr(self, key) is not None and
                    key not in self._KEYS[self.kind]):
                raise StressGuestError("%s does not take '%s'" %
                                       (self.kind, key))

    @classmethod
    def parse(cls, word):
        """From what word() makes"""
        kind, *options = word.split(",")
        values = {}
        for option in options:
            key, _, value = option.partition("=")
            if key not in _KEYS:
                raise StressGuestError("unknown key '%s' in role '%s'" %
                                       (key, word))
            if not value.isdecimal():
                raise StressGuestError("'%s' of role '%s' is not a number" %
                                       (key, word))
            values[key] = int(value)
        return cls(kind, **values)

    def takes(self, key):
        return key in self._KEYS[self.kind]

    def word(self):
        """The role as the guest's command line has it"""
        options = ["%s=%d" % (key, getattr(self, key))
                   for key in self._KEYS[self.kind]
                   if getattr(self, key) is not None]
        return ",".join([self.kind] + options)


def cmdline(roles, khz=None, console=False, pv=False, display=False):
    """The guest's command line (-append); roles[i] is for vCPU i"""
    if len(roles) > MAX_VCPUS:
        raise StressGuestError("%d vCPUs, the stress guest has at most %d" %
                               (len(roles), MAX_VCPUS))
    words = ["%d=%s" % (i, role.word()) for i, role in enumerate(roles)]
    if khz is not None:
        words.append("khz=%d" % khz)
    if console:
        words.append("console=1")
    if pv:
        words.append("pv=1")
    if display:
        words.append("display=1")
    return " ".join(words)


def elf_path():
    """The guest's file: from $STRESS_GUEST, or where the Makefile puts it"""
    path = os.environ.get("STRESS_GUEST")
    if path is None:
        path = (Path(__file__).resolve().parents[3] /
                "build" / "stress-guest" / "stress-guest.elf")
    if not os.path.isfile(path):
        raise StressGuestError(
            "no stress guest at %s: run"
            " 'make -C tests/migration/stress-guest'"
            " or set STRESS_GUEST" % path)
    return str(path)


@dataclass(frozen=True)
class Vcpu:
    """What one vCPU had counted at one moment"""
    # In the order of StressGuestVcpu in stress-guest.h
    role: str
    rate: int
    region_start: int
    region_size: int
    ops: int
    passes: int
    errors: int
    error_gpa: int
    error_expected: int
    error_found: int
    max_gap_ns: int
    max_gap_total_ns: int
    seen_epoch: int
    start_tsc: int
    tsc: int
    sequence: int
    # When it was read, as time.monotonic() counts
    time: float

    @property
    def max_gap_ms(self):
        return self.max_gap_ns / 1e6

    def rate_since(self, earlier):
        """
        Operations per second between an earlier snapshot and this one

        By the host's clock, so that a vCPU which stands still shows as one.
        """
        if self.ops < earlier.ops:
            raise StressGuestError(
                "the guest was restarted between the snapshots")
        if self.time <= earlier.time:
            raise StressGuestError("no time has passed between the snapshots")
        return (self.ops - earlier.ops) / (self.time - earlier.time)

    def error_text(self):
        """The first error, for people, or None"""
        if not self.errors:
            return None
        return ("%d bad page visits, the first at 0x%x: expected pass %d of "
                "0x%x, found pass %d of 0x%x" %
                (self.errors, self.error_gpa,
                 self.error_expected >> 32, self.error_expected & 0xffffffff,
                 self.error_found >> 32, self.error_found & 0xffffffff))


def _bucket_end_ns(bucket):
    """What is in a bucket is less than that"""
    doubled = max(0, bucket // _BUCKETS - 1)
    return ((bucket - doubled * _BUCKETS + 1) << doubled) * _BUCKET_NS


@dataclass(frozen=True)
class Waits:
    """
    How long a vCPU has waited, each time that it had to

    For a moment in role latency, and for the lock in role locker.
    """
    total_ns: int
    # How often that was how long, see _bucket_end_ns()
    buckets: tuple[int, ...]

    @property
    def count(self):
        return sum(self.buckets)

    @property
    def average_us(self):
        return self.total_ns / self.count / 1000 if self.count else None

    def quantile_us(self, share):
        """@share of the waits were no longer than that, in microseconds"""
        wanted = share * self.count
        so_far = 0
        for bucket, number in enumerate(self.buckets):
            so_far += number
            if number and so_far >= wanted:
                return _bucket_end_ns(bucket) / 1000
        return None

    def since(self, earlier):
        """Those after an earlier look at the same vCPU"""
        if any(now < before for now, before
               in zip(self.buckets, earlier.buckets)):
            raise StressGuestError(
                "the guest was restarted between the snapshots")
        return Waits(self.total_ns - earlier.total_ns,
                     tuple(now - before for now, before
                           in zip(self.buckets, earlier.buckets)))

    def __add__(self, other):
        return Waits(self.total_ns + other.total_ns,
                     tuple(a + b for a, b in zip(self.buckets, other.buckets)))


# All fields but the time, and where some of them are
_BLOCK_WORDS = 16
_OPS, _SEQUENCE, _SEEN_WANTED, _WANTED = 4, 15, 16, 17


class StressGuest(object):
    """
    A running stress guest, through the file that is its RAM

    At a migration's destination it is another file, so another StressGuest.
    The file may come into being later, but before wait_up() has returned no
    other method but ops() works.

    The file is read and not mapped: looking at a page through a mapping would
    bring it into being, and so keep post-copy from placing it there.
    """

    def __init__(self, path):
        self._path = str(path)
        self._fd = -1

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.close()

    def close(self):
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _open(self):
        """Open the file; False if it is not there yet"""
        if self._fd >= 0:
            return True
        try:
            fd = os.open(self._path, os.O_RDWR)
        except FileNotFoundError:
            return False
        if os.fstat(fd).st_size < COUNTERS + (1 + MAX_VCPUS) * PAGE_SIZE:
            os.close(fd)
            return False
        self._fd = fd
        return True

    def _words(self, first, number):
        """Some words of the counters, in units of 8 bytes"""
        if self._fd < 0:
            raise StressGuestError("%s: not open, call wait_up() first" %
                                   self._path)
        return struct.unpack("<%dQ" % number,
                             os.pread(self._fd, 8 * number,
                                      COUNTERS + 8 * first))

    def _word(self, index):
        return self._words(index, 1)[0]

    def _write(self, index, value):
        os.pwrite(self._fd, struct.pack("<Q", value), COUNTERS + 8 * index)

    def _wait(self, what, timeout, condition):
        wait_until("%s: %s" % (self._path, what), timeout, condition)

    def _is_up(self):
        if not self._open():
            return False
        if self._word(_MAGIC) != MAGIC:
            return False
        version = self._word(_VERSION_NR_VCPUS) & 0xffffffff
        if version != VERSION:
            raise StressGuestError("%s: counters are version %d, not %d" %
                                   (self._path, version, VERSION))
        if self.state == ERROR:
            raise StressGuestError("%s: the guest has stopped with an error, "
                                   "its serial port says which" % self._path)
        return self.state == RUNNING

    def wait_up(self, timeout=30):
        """Wait until all vCPUs run"""
        self._wait("the stress guest is up", timeout, self._is_up)

    def wait_filled(self, timeout=60):
        """Wait until all regions are full and the work proper has begun"""
        self._wait("the guest has filled its memory", timeout,
                   lambda: all(v.ops for v in self.vcpus()
                               if v.role != "idle"))

    def wait_epoch(self, timeout=10):
        """Wait until every max_gap_ns belongs to the present epoch"""
        self._wait("every vCPU has taken up the new epoch", timeout,
                   lambda: all(v.seen_epoch == self.epoch
                               for v in self.vcpus() if v.role != "idle"))

    def wait_passes(self, passes, timeout):
        """
        Wait until every vCPU has walked its region @passes times more

        Snapshots of all vCPUs, whose errors tell what was found damaged.
        """
        goals = [v.passes + passes for v in self.vcpus()]
        self._wait("%d more passes over the guest's memory" % passes, timeout,
                   lambda: all(v.passes >= goal or not v.region_size
                               for v, goal in zip(self.vcpus(), goals)))
        return self.vcpus()

    @property
    def state(self):
        return self._word(_STATE)

    @property
    def nr_vcpus(self):
        return self._word(_VERSION_NR_VCPUS) >> 32

    @property
    def tsc_khz(self):
        return self._word(_TSC_KHZ)

    @property
    def epoch(self):
        return self._word(_EPOCH)

    @staticmethod
    def _block(i):
        """Where vCPU i's block begins, in units of 8 bytes"""
        return (1 + i) * PAGE_SIZE // 8

    def vcpu(self, i):
        """A snapshot of vCPU i's counters"""
        if not 0 <= i < self.nr_vcpus:
            raise StressGuestError("%s: no vCPU %d, there are %d" %
                                   (self._path, i, self.nr_vcpus))
        first = self._block(i)
        for _ in range(_SNAPSHOT_TRIES):
            before = self._word(first + _SEQUENCE)
            words = self._words(first, _BLOCK_WORDS)
            now = time.monotonic()
            after = self._word(first + _SEQUENCE)
            if before == words[_SEQUENCE] == after and before % 2 == 0:
                break
        return Vcpu(ROLES[words[0]], *words[1:], time=now)

    def waits(self, i):
        """
        The waits of vCPU i since it began

        One of them may be counted, and not yet be in the total.
        """
        if self._fd < 0:
            raise StressGuestError("%s: not open, call wait_up() first" %
                                   self._path)
        total, *buckets = _WAITS.unpack(os.pread(
            self._fd, _WAITS.size,
            COUNTERS + (1 + i) * PAGE_SIZE + _WAITS_OFFSET))
        return Waits(total, tuple(buckets))

    def line(self, i):
        """Words of 64 bits of vCPU i's line of the device pvsched"""
        return self._words(self._block(i) + LINE_OFFSET // 8, 3)

    def spoil_line(self, i, content):
        """Write something else there"""
        os.pwrite(self._fd, content,
                  COUNTERS + (1 + i) * PAGE_SIZE + LINE_OFFSET)

    def ops(self, i):
        """
        Operations of vCPU i, 0 as long as it has not begun

        At a migration's destination this may be asked at any time. Before the
        guest runs there it is an earlier number of the source's, or 0.
        """
        if not self._open():
            return 0
        return self._word(self._block(i) + _OPS)

    def vcpus(self):
        return [self.vcpu(i) for i in range(self.nr_vcpus)]

    def new_epoch(self):
        """
        Make every vCPU look for its longest gap anew; the new epoch's number

        A vCPU takes it up at its next operation, see wait_epoch(). The host's
        write is not logged as dirty: at a migration's destination begin a new
        epoch again.
        """
        epoch = 1 + max([self.epoch] + [v.seen_epoch for v in self.vcpus()])
        self._write(_EPOCH, epoch)
        return epoch

    def expect_boot(self):
        """
        To be called before a reset: wait_up() then waits for what comes after

        The guest itself writes its state only while it boots, or when it stops
        with an error.
        """
        self._write(_STATE, BOOTING)

    def want(self, i, kind, rate=0):
        """
        Make vCPU i do something else from its next operation on

        The host's write is not logged as dirty: a migration may lose it until
        the vCPU has taken it up.
        """
        if kind not in WANTED_ROLES:
            raise StressGuestError("a vCPU cannot become '%s', only %s" %
                                   (kind, ", ".join(WANTED_ROLES)))
        first = self._block(i)
        number = max(word >> _WANTED_NUMBER_SHIFT for word in
                     (self._word(first + _WANTED),
                      self._word(first + _SEEN_WANTED))) + 1
        # The number wraps; it need only differ from the one before
        self._write(first + _WANTED,
                    (number & 0xffff) << _WANTED_NUMBER_SHIFT |
                    rate << _WANTED_RATE_SHIFT | ROLES.index(kind))

    def has_wanted(self, i):
        """Whether vCPU i has taken up the last role that was wanted of it"""
        first = self._block(i)
        return self._word(first + _SEEN_WANTED) == self._word(first + _WANTED)
