"""One training writes into a run's folder: a lock that the system takes back when its process is killed."""
import atexit
import os
import re
import socket
import time
from contextlib import suppress

NAME = "running.lock"           # in the run's folder as long as it is being trained
FAR = 2**20                     # the byte that is locked: Windows lets nobody read one that is

held = {}                       # path of the lock -> its open file, for this process alone


def take(folder):
    """Lock a folder until `release` or the end of this process. -> "", or who has locked it.

    A file system without locks, or without room for this file, is no reason to stop: then nothing is locked.
    """
    path = folder / NAME
    if path in held:
        return ""
    try:
        file = open(path, "a+b", buffering=0)               # noqa: SIM115  open as long as the lock
    except OSError:
        return ""
    if not lock(file):
        holder = read_holder(file)
        file.close()
        return holder

    # Between opening and locking, another process may have ended and deleted its file.
    if not is_still_there(path, file):
        file.close()
        return take(folder)

    # For the sentence that others get.
    held[path] = file
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    with suppress(OSError):
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {now}".encode())
    atexit.register(release, folder, os.getpid())
    return ""


def is_still_there(path, file):
    """Whether an open file has this name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except OSError:
        return False


def release(folder, process=None):
    """Give it back. process: only if this is it; a loader's process inherits the list of what was held."""
    path = folder / NAME
    if path not in held or process not in (None, os.getpid()):
        return
    with suppress(OSError):
        path.unlink()                                       # Windows deletes no open file; it stays, unlocked
    held.pop(path).close()


def holder_of(folder):
    """Who has locked a folder: "process 1234 on host since time"; "" when nobody has, or this process."""
    path = folder / NAME
    if path in held:
        return ""
    try:
        with open(path, "r+b", buffering=0) as file:
            return "" if lock(file) else read_holder(file)
    except OSError:
        return ""


def lock(file):
    """Lock an open file for this process, not for those that it starts. -> whether it was free."""
    free = True

    # One byte, far behind what the file says. A file system without locks refuses nobody.
    try:
        if os.name == "nt":
            import msvcrt
            file.seek(FAR)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, FAR)
    except OSError as error:
        free = not isinstance(error, (BlockingIOError, PermissionError))
    return free


def read_holder(file):
    """What `take` wrote, as far as it looks like that."""
    file.seek(0)
    text = file.read(300).decode("utf-8", "replace")
    return text if re.fullmatch(r"process \d+ on [\w.-]+ since [\d: -]+", text) else "another process"
