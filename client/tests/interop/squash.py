"""Tries what permissions allow or forbid, as one user, and says what came of it: squash.py DIRECTORY UID GID."""

import errno
import os
import sys

root, uid, gid = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


def at(path):
    return os.path.join(root, path)


def opened(path, flags):
    os.close(os.open(at(path), flags, 0o666))


def appended(path):
    file = os.open(at(path), os.O_WRONLY | os.O_APPEND)
    os.write(file, b"more")
    os.close(file)


def ran(path):
    pid = os.posix_spawn(at(path), [path], {})
    _, status = os.waitpid(pid, 0)
    assert status == 0, status


def may(path, mode):
    if not os.access(at(path), mode):
        raise OSError(errno.EACCES, path)


ACTS = {
    "list private": lambda: os.listdir(at("private")),
    "stat in private": lambda: os.stat(at("private/file")),
    "read in private": lambda: opened("private/file", os.O_RDONLY),
    "list roots": lambda: os.listdir(at("roots")),
    "read roots": lambda: opened("roots/file", os.O_RDONLY),
    "write roots": lambda: opened("roots/file", os.O_RDWR),
    "truncate roots": lambda: os.truncate(at("roots/file"), 1),
    "create in roots": lambda: opened("roots/new", os.O_CREAT | os.O_WRONLY),
    "unlink in roots": lambda: os.unlink(at("roots/file")),
    "rename in roots": lambda: os.rename(at("roots/file"), at("roots/other")),
    "chmod roots": lambda: os.chmod(at("roots/file"), 0o777),
    "touch roots": lambda: os.utime(at("roots/file")),
    "give roots away": lambda: os.chown(at("roots/file"), uid, gid),
    "read secret": lambda: opened("roots/secret", os.O_RDONLY),
    "may read secret": lambda: may("roots/secret", os.R_OK),
    "may read roots": lambda: may("roots/file", os.R_OK),
    "may write roots": lambda: may("roots/file", os.W_OK),
    "list group": lambda: os.listdir(at("group")),
    "create in group": lambda: opened("group/new", os.O_CREAT | os.O_WRONLY),
    "read nobody's": lambda: opened("nobodys/file", os.O_RDONLY),
    "append nobody's": lambda: appended("nobodys/file"),
    "truncate nobody's": lambda: os.truncate(at("nobodys/file"), 2),
    "may write nobody's": lambda: may("nobodys/file", os.W_OK),
    "chmod nobody's": lambda: os.chmod(at("nobodys/file"), 0o640),
    "touch nobody's": lambda: os.utime(at("nobodys/file")),
    "set times of nobody's": lambda: os.utime(at("nobodys/file"), (5, 5)),
    "give nobody's away": lambda: os.chown(at("nobodys/file"), 0, 0),
    "create in nobody's": lambda: opened("nobodys/new", os.O_CREAT | os.O_WRONLY),
    "create in open": lambda: opened("open/file", os.O_CREAT | os.O_EXCL | os.O_RDWR),
    "mkdir in open": lambda: os.mkdir(at("open/dir")),
    "symlink in open": lambda: os.symlink("to", at("open/link")),
    "mkfifo in open": lambda: os.mkfifo(at("open/fifo")),
    "link in open": lambda: os.link(at("open/file"), at("open/linked")),
    "rename into open": lambda: os.rename(at("nobodys/file"), at("open/moved")),
    "rmdir in open": lambda: os.rmdir(at("open/dir")),
    "unlink root's in sticky": lambda: os.unlink(at("sticky/roots")),
    "unlink nobody's in sticky": lambda: os.unlink(at("sticky/nobodys")),
    "unlink user's in sticky": lambda: os.unlink(at("sticky/users")),
    "run": lambda: ran("roots/program"),
    "run what nobody may": lambda: ran("roots/file"),
}

# Loaded before it becomes somebody who may not read where Python is.
if uid:
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
for name, act in ACTS.items():
    try:
        act()
        print(name, "- done")
    except OSError as error:
        print(name, "-", errno.errorcode[error.errno])
