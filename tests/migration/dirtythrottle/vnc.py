#
# Dirty throttle tests: somebody looks at the guest's screen
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import os
import select
import socket
import struct
import threading
import time

from typing import Any

# As often as QEMU looks at the screen while something changes there
UPDATES_PER_SECOND = 30

# Some lines of JSON, on a machine that does other work too
CONNECT_SECONDS = 20

_VERSION = b"RFB 003.008\n"
_NO_SECURITY = 1
_SHARED = 1
_SET_ENCODINGS = 2
_UPDATE_REQUEST = 3
_RAW = 0


def server_args(directory: str) -> tuple[str, ...]:
    """For a VM whose screen is to be looked at through @directory"""
    return ("-vnc", "unix:" + _path(directory))


def _path(directory: str) -> str:
    return os.path.join(directory, "vnc.sock")


class Viewer(threading.Thread):
    """
    A VNC client that wants to know what has changed, many times a second

    It throws away what it is told. QEMU looks at the screen ever less often
    while nothing changes there, so somebody should draw.
    """

    def __init__(self, directory: str):
        super().__init__(name="viewer", daemon=True)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(CONNECT_SECONDS)
        self._path = _path(directory)
        self._done = threading.Event()
        # How much QEMU has told, in bytes
        self.received = 0

    def __enter__(self) -> "Viewer":
        self._socket.connect(self._path)
        self._greet()
        self.start()
        return self

    def __exit__(self, *args: Any) -> None:
        self._done.set()
        self.join()
        self._socket.close()

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._socket.recv(size - len(data))
            if not part:
                raise ConnectionError("the VNC server hung up")
            data += part
        return data

    def _greet(self) -> None:
        """RFC 6143, section 7.1 to 7.3"""
        self._read(len(_VERSION))
        self._socket.sendall(_VERSION)
        self._read(self._read(1)[0])
        self._socket.sendall(bytes([_NO_SECURITY]))
        result, = struct.unpack(">I", self._read(4))
        if result:
            raise ConnectionError("the VNC server wants a password")
        self._socket.sendall(bytes([_SHARED]))
        # width, height and the format of a pixel, then a name
        head = ">HH16sI"
        *_, length = struct.unpack(head, self._read(struct.calcsize(head)))
        self._read(length)
        self._socket.sendall(struct.pack(">BxHi", _SET_ENCODINGS, 1, _RAW))

    def run(self) -> None:
        request = struct.pack(">BBHHHH", _UPDATE_REQUEST, 1, 0, 0, 0xffff,
                              0xffff)
        due = time.monotonic()
        try:
            while not self._done.is_set():
                wait = due - time.monotonic()
                if wait <= 0:
                    self._socket.sendall(request)
                    due += 1 / UPDATES_PER_SECOND
                elif select.select([self._socket], [], [], wait)[0]:
                    data = self._socket.recv(1 << 20)
                    if not data:
                        return
                    self.received += len(data)
        except OSError:
            # QEMU has gone, and with it the test
            return
