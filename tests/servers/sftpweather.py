"""Stands between sshd and its sftp-server, and does to single packets what networks and disks do.

    sftpweather.py FOLDER SFTP-SERVER

A file `next` in FOLDER says what the next fitting request meets, once: `after`: a rename is done,
and no answer comes from then on; `throttled`: a list or a new folder fails. Every rename adds a
byte to the file `renames`. Started anew for each session, so it imports little.
"""

import os
import select
import struct
import sys

_OPENDIR, _MKDIR, _RENAME, _EXTENDED = 11, 14, 18, 200
_STATUS, _FAILURE = 101, 4


def packet(buffer):
    """The first whole packet of a buffer, cut off from it, or None."""
    if len(buffer) < 4:
        return None
    size = 4 + struct.unpack(">I", buffer[:4])[0]
    if len(buffer) < size:
        return None
    whole = bytes(buffer[:size])
    del buffer[:size]
    return whole


def is_rename(request):
    return request[4] == _RENAME or (
        request[4] == _EXTENDED and request[13:33] == b"posix-rename@openssh"[:20])


def take(folder, wanted):
    """Once, whichever session comes first: the rename of the file decides."""
    path = os.path.join(folder, "next")
    try:
        with open(path) as file:
            if file.read() != wanted:
                return False
        os.rename(path, f"{path}.{os.getpid()}")
    except FileNotFoundError:
        return False
    return True


def write(to, data):
    while data:
        data = data[os.write(to, data):]


def main():
    folder, program = sys.argv[1:3]
    (below, down), (up, above) = os.pipe(), os.pipe()
    if os.fork() == 0:
        os.dup2(below, 0)
        os.dup2(above, 1)
        os.execv(program, [program])
    os.close(below)
    os.close(above)
    asked = bytearray()
    silent = False
    while True:
        ready, _, _ = select.select([0, up], [], [])
        if up in ready:
            data = os.read(up, 65536)
            if not data:
                return
            if not silent:
                write(1, data)
        if 0 in ready:
            data = os.read(0, 65536)
            if not data:
                os.close(down)
                os.wait()
                return
            asked += data
            while (request := packet(asked)) is not None:
                if is_rename(request):
                    with open(os.path.join(folder, "renames"), "ab") as count:
                        count.write(b".")
                    silent = silent or take(folder, "after")
                elif request[4] in (_OPENDIR, _MKDIR) and take(folder, "throttled"):
                    said = request[5:9] + struct.pack(">I", _FAILURE) + b"\0\0\0\4busy\0\0\0\0"
                    write(1, struct.pack(">IB", len(said) + 1, _STATUS) + said)
                    continue
                write(down, request)


main()
