#
# Dirty throttle chaos: what lies between a source and its destination
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import socket
import threading

from typing import Callable

_CHUNK = 256 * 1024

# Much longer than between two events, and shorter than QEMU gets to answer
_STALL_SECONDS = 5


def _shutdown(sock: socket.socket, how: int) -> None:
    try:
        sock.shutdown(how)
    except OSError:
        # It was not connected any more
        pass


class Channel:
    """
    Connections to @path are carried on to @target, or to nowhere

    They can be made to stall, like a link that has died but has not been given
    up yet, and to break.
    """

    def __init__(self, path: str, target: str | None):
        self.uri = "unix:" + path
        self._target = target
        # Set as long as anything moves
        self._flow = threading.Event()
        self._flow.set()
        # Ends the latest stall
        self._healer: threading.Timer | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(16)
        self._run(self._accept)

    def stall(self) -> None:
        """
        Until healed, but not for ever

        QEMU 7.2 holds the BQL while it sends the last of the guest, so nobody
        gets an answer from it meanwhile.
        """
        self._flow.clear()
        if self._healer:
            self._healer.cancel()
        self._healer = threading.Timer(_STALL_SECONDS, self._flow.set)
        self._healer.daemon = True
        self._healer.start()

    def heal(self) -> None:
        if self._healer:
            self._healer.cancel()
        self._flow.set()

    @property
    def stalled(self) -> bool:
        return not self._flow.is_set()

    def close(self) -> None:
        """Break all connections; there are no new ones"""
        with self._lock:
            self._closed = True
            for sock in self._sockets + [self._listener]:
                _shutdown(sock, socket.SHUT_RDWR)
        self.heal()
        for thread in self._threads:
            thread.join()
        for sock in self._sockets:
            sock.close()
        self._listener.close()

    def _run(self, function: Callable[..., None],
             *args: socket.socket) -> None:
        thread = threading.Thread(target=function, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        """One after another: the first is the main one of a multifd"""
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._closed:
                    near.close()
                    return
                self._sockets.append(near)
                if self._target is None:
                    self._run(self._copy, near)
                    continue
                far = socket.socket(socket.AF_UNIX)
                self._sockets.append(far)
                try:
                    far.connect(self._target)
                except OSError:
                    _shutdown(near, socket.SHUT_RDWR)
                    continue
                self._run(self._copy, near, far)
                self._run(self._copy, far, near)

    def _copy(self, source: socket.socket,
              sink: socket.socket | None = None) -> None:
        buffer = memoryview(bytearray(_CHUNK))
        try:
            while True:
                self._flow.wait()
                size = source.recv_into(buffer)
                if not size:
                    break
                self._flow.wait()
                if sink:
                    sink.sendall(buffer[:size])
        except OSError:
            # Whoever was connected has gone, or the channel was broken
            _shutdown(source, socket.SHUT_RDWR)
        if sink:
            _shutdown(sink, socket.SHUT_WR)
