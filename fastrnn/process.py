"""What has to be done about locks when the process forks.

A lock that another thread holds at that moment would stay locked in the child for ever, and what it
guards would be half changed there. So the thread that forks takes all of them first."""

import os
import weakref

_locks = weakref.WeakSet()
_held = []


def fork_safe(lock):
    """Register a lock (threading.Lock or RLock) that no thread holds for long; returns it."""
    _locks.add(lock)
    return lock


def _take_all():
    while True:
        taken = []
        for lock in list(_locks):
            if not lock.acquire(timeout=0.5):  # its holder may be waiting for one of the others
                break
            taken.append(lock)
        else:
            _held.append(taken)
            return
        for lock in taken:
            lock.release()


def _release_all():
    for lock in _held.pop():
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_take_all, after_in_parent=_release_all, after_in_child=_release_all)
