"""A process that opens and locks files as it is told, a line each; says `ok`, `=` and a result, or the name of an errno."""

import errno
import fcntl
import os
import signal
import struct
import sys

OFD_SETLK = 37
MODES = {"sh": fcntl.LOCK_SH, "ex": fcntl.LOCK_EX, "un": fcntl.LOCK_UN}
KINDS = {"sh": fcntl.F_RDLCK, "ex": fcntl.F_WRLCK, "un": fcntl.F_UNLCK}
NAMES = {value: name for name, value in KINDS.items()}
FLOCK = struct.Struct("hhqqi4x")
files = {}


class Alarm(Exception):
    pass


def on_alarm(_signal, _frame):
    raise Alarm


def run(word, *args):
    if word == "open":
        files[args[0]] = os.open(args[1], os.O_RDWR | os.O_CREAT, 0o666)
    elif word == "dup":
        files[args[1]] = os.dup(files[args[0]])
    elif word == "close":
        os.close(files.pop(args[0]))
    elif word == "flock":
        fcntl.flock(files[args[0]], MODES[args[1]] | (fcntl.LOCK_NB if "nb" in args[2:] else 0))
    elif word == "lockf":
        fcntl.lockf(files[args[0]], MODES[args[1]] | (fcntl.LOCK_NB if "nb" in args[4:] else 0), int(args[3]), int(args[2]))
    elif word == "ofd":
        fcntl.fcntl(files[args[0]], OFD_SETLK, FLOCK.pack(KINDS[args[1]], 0, int(args[2]), int(args[3]), 0))
    elif word == "getlk":
        asked = FLOCK.pack(KINDS[args[1]], 0, int(args[2]), int(args[3]), 0)
        kind, _, start, length, pid = FLOCK.unpack(fcntl.fcntl(files[args[0]], fcntl.F_GETLK, asked))
        return f"= {NAMES[kind]} {start} {length} {pid}" if kind != fcntl.F_UNLCK else "= un"
    elif word == "write":
        os.pwrite(files[args[0]], args[1].encode(), 0)
    elif word == "read":
        return "= " + os.pread(files[args[0]], 100, 0).decode()
    return "ok"


signal.signal(signal.SIGALRM, on_alarm)
print("ready", flush=True)
for line in sys.stdin:
    try:
        said = run(*line.split())
    except Alarm:
        said = "EINTR"
    except OSError as error:
        said = errno.errorcode.get(error.errno, str(error.errno))
    print(said, flush=True)
