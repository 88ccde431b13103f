"""One process writes a file through a mapping, another reads it through its own."""

import mmap
import os
import subprocess
import sys

SIZE = 3_000_000


def pattern(n):
    return bytes((n * 31 + at) % 251 for at in range(4096))


def read(path):
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapping:
        print(len(mapping), flush=True)
        for line in sys.stdin:
            at, n = map(int, line.split())
            print("same" if mapping[at : at + 4096] == pattern(n) else "other", flush=True)


def main(path):
    with open(path, "w+b") as file:
        file.truncate(SIZE)
        reader = subprocess.Popen([sys.executable, __file__, path, "read"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert reader.stdout.readline() == f"{SIZE}\n"
        with mmap.mmap(file.fileno(), SIZE) as mapping:
            for n in range(50):
                at = n * 58_111 % (SIZE - 4096)
                mapping[at : at + 4096] = pattern(n)
                if n % 10 == 0:
                    mapping.flush()
                reader.stdin.write(f"{at} {n}\n")
                reader.stdin.flush()
                assert reader.stdout.readline() == "same\n", at
            whole = mapping[:]
        os.fsync(file.fileno())
    reader.stdin.close()
    assert reader.wait() == 0
    with open(path, "rb") as file:
        assert file.read() == whole


read(sys.argv[1]) if sys.argv[2:] == ["read"] else main(sys.argv[1])
