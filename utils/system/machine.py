"""What this process may use of a computer: in a container that is less than there is."""
import multiprocessing
import os
import sys
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")        # through which the batches of loader processes come


def cores():
    """How many CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def usual_start():
    """How loader processes start: by fork on Linux, where they share the cache, else as is usual there."""
    return "fork" if sys.platform == "linux" else multiprocessing.get_start_method()


def machine_memory():
    """Bytes of main memory, or what a container may use of it; where the system does not tell, 8 GiB."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 8 * 2**30
    limit = Path("/sys/fs/cgroup/memory.max")
    allowed = limit.read_text().strip() if limit.is_file() else "max"
    return min(memory, int(allowed)) if allowed.isdigit() else memory


def is_running(process):
    """Whether there is a process with this number on this machine."""
    if os.name == "nt":
        import ctypes
        kernel = ctypes.windll.kernel32                     # signal 0 would be Ctrl-C there
        handle = kernel.OpenProcess(0x1000, False, process)
        kernel.CloseHandle(handle)
        return bool(handle)

    # Signal 0 does nothing; it only tells whether it could be sent.
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:                                 # somebody else's
        pass
    return True
