"""A process whose files in /proc, and below its root folder, are made to hurt whoever reads them.

usage: process.py CASE FOLDER
Says `ready` when all is in place; then a child makes its first socket every 100 ms, which makes the agent look at it."""

import ctypes
import mmap
import os
import signal
import socket
import struct
import sys
import time

case, folder = sys.argv[1], sys.argv[2]
libc = ctypes.CDLL(None, use_errno=True)
PRIVATE_MOUNTS, MS_BIND, MS_PRIVATE_REC = 0x20000, 0x1000, 0x44000


def checked(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def own_mounts():
    checked(libc.unshare(PRIVATE_MOUNTS))
    checked(libc.mount(b"none", b"/", None, MS_PRIVATE_REC, None))


def bind(source, target):
    checked(libc.mount(source.encode(), target.encode(), None, MS_BIND, None))


def sparse(path, size):
    with open(path, "wb") as file:
        file.truncate(size)


def elf(path, symbols, strings, gap=1 << 20):
    """An ELF header, a code segment, and a symbol table with its strings: nothing but holes, but for one name at the end."""
    header = bytearray(64)
    header[:7] = b"\x7fELF\2\1\1"
    struct.pack_into("<HHI", header, 16, 3, 62, 1)
    struct.pack_into("<QQQ", header, 24, 0, 64, 4096)
    struct.pack_into("<HHHHHH", header, 52, 64, 56, 1, 64, 3, 0)
    with open(path, "wb") as file:
        file.write(header + struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, 1 << 40, 1 << 40, 4096))
        file.seek(4096)
        file.write(b"\0" * 64)
        file.write(struct.pack("<IIQQQQIIQQ", 0, 2, 0, 0, gap, symbols, 2, 0, 8, 24))
        file.write(struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, gap + symbols, strings, 0, 0, 1, 0))
        file.seek(gap + symbols + strings - 16)
        file.write(b"\0EVP_KDF_derive\0")


def map_as_code(path):
    descriptor = os.open(path, os.O_RDONLY)
    mapped = mmap.mmap(descriptor, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC, flags=mmap.MAP_PRIVATE)
    os.close(descriptor)
    return mapped


def maps():
    """60,000 lines of 4 KB each."""
    os.chdir(folder)
    name = "d" * 200
    for _ in range(18):
        os.mkdir(name)
        os.chdir(name)
    with open("f", "wb") as file:
        file.truncate(4096)
    descriptor = os.open("f", os.O_RDONLY)
    libc.mmap.restype = ctypes.c_void_p
    for index in range(60_000):
        libc.mmap(None, ctypes.c_size_t(4096), 1 | (4 if index & 1 else 0), 2, descriptor, ctypes.c_long(0))


def environment():
    """An environment of a gigabyte that takes no memory (PR_SET_MM_MAP)."""
    size = 1 << 30
    libc.mmap.restype = ctypes.c_void_p
    start = libc.mmap(None, ctypes.c_size_t(size), 1, 0x4022, -1, ctypes.c_long(0))
    with open("/proc/self/stat", encoding="ascii") as file:
        field = [int(word) for word in file.read().rsplit(")", 1)[1].split()[1:]]
    libc.sbrk.restype = ctypes.c_void_p
    code, code_end, stack = field[22], field[23], field[24]
    data, data_end, heap, arguments, arguments_end = field[41], field[42], field[43], field[44], field[45]
    layout = struct.pack(
        "<12QIi", code, code_end, data, data_end, heap, libc.sbrk(0), stack, arguments, arguments_end, start, start + size, 0, 0, -1
    )
    buffer = ctypes.create_string_buffer(layout, len(layout))
    checked(libc.prctl(35, 14, buffer, ctypes.c_ulong(len(layout)), 0))


def loader():
    """An /etc/ld.so.conf of two gigabytes."""
    own_mounts()
    sparse(f"{folder}/ld.so.conf", 2_000_000_000)
    if not os.path.exists("/etc/ld.so.conf"):
        sys.exit("no /etc/ld.so.conf to put it over")
    bind(f"{folder}/ld.so.conf", "/etc/ld.so.conf")


def files():
    """100 files of code with 320 MiB of symbols each."""
    kept = []
    for index in range(100):
        elf(f"{folder}/{index}", 64 << 20, 256 << 20)
        kept.append(map_as_code(f"{folder}/{index}"))
    return kept


def names():
    """A library folder with a FIFO, a device, links in a circle, and 20,000 names of libraries."""
    own_mounts()
    os.mkdir(f"{folder}/lib")
    os.mkfifo(f"{folder}/lib/libcrypto.so.3")
    os.mknod(f"{folder}/lib/libcrypto.so.4", 0o20666, os.makedev(1, 5))
    os.symlink("libcrypto.so.5", f"{folder}/lib/libcrypto.so.5")
    for index in range(20_000):
        os.symlink("/dev/zero", f"{folder}/lib/libcrypto.so.{index + 10}")
    bind(f"{folder}/lib", "/usr/local/lib")


def silent():
    """A library folder on a file system that never answers."""
    own_mounts()
    checked(libc.mount(b"none", b"/usr/local", b"tmpfs", 0, None))
    os.mkdir("/usr/local/lib64")
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    checked(libc.mount(b"silent", b"/usr/local/lib64", b"fuse", 0, options))
    return device


CASES = {each.__name__: each for each in (maps, environment, loader, files, names, silent)}
kept = CASES[case]()
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print("ready", flush=True)
while True:
    if os.fork() == 0:
        socket.socket()
        time.sleep(0.3)
        os._exit(0)
    time.sleep(0.1)
