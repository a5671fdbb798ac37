"""Served files: outputs whose name is in the mount only until the worker has published them."""
import hashlib
import mmap
import os
import subprocess
import threading
import time

from harness import Host, Mode, equal, mounted, run_tests

MIB = 1 << 20
LARGE = 600 * MIB  # long enough to be caught pending


def blob(mode, size, name="blob"):
    """A file outside the mount, with contents that are cheap to make and to check."""
    path = os.path.join(mode.work, f"{name}-{size}")
    if not os.path.exists(path):
        with open(path, "wb") as file:
            block = hashlib.sha256(name.encode()).digest() * 32768  # 1 MiB
            for i in range(size // MIB):
                file.write(i.to_bytes(8, "little") + block[8:])
            file.write(block[:size % MIB])
        os.chmod(path, 0o640)
    return path


def below(mode, directory, text):
    """Runs a script that sees the lower directory: its working directory is older than the mount."""
    return mode.start(["bash", "-c", f"read x; {text}"], cwd=directory, stdin=subprocess.PIPE,
                      stdout=subprocess.PIPE, text=True)


def finish(process):
    return process.communicate("go\n", timeout=30)[0]


def pending(host):
    return int(host.status()["pending"])


def read_while_pending(mode, directory):
    source = blob(mode, LARGE)
    with Host(mode, directory) as host:
        host.tell(f"serve out {source}")
        with open(os.path.join(directory, "out"), "rb") as file:
            file.seek(123 * MIB)
            equal(int.from_bytes(file.read(8), "little"), 123, "read")
            with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapping:
                equal(int.from_bytes(mapping[7 * MIB:7 * MIB + 8], "little"), 7, "mapped")
                was_pending = pending(host)
                equal(os.fstat(file.fileno()).st_size, LARGE, "fstat")
        st = os.stat(os.path.join(directory, "out"))
        equal((st.st_size, st.st_mode & 0o7777, st.st_nlink), (LARGE, 0o640, 1), "stat")
        assert abs(st.st_mtime - time.time()) < 20, "mtime is not now"
        equal(os.listdir(directory), ["out"], "listing")
        equal(host.tell("digest out"), str(LARGE), "digest")
        equal(host.tell("stat out"), str(LARGE), "Tree::stat")
        equal(host.tell("list "), "fout", "Tree::list")
        assert was_pending == 1, "the file was published before it was read"
        host.tell("publish out")
        equal(pending(host), 0, "pending")
        after = os.stat(os.path.join(directory, "out"))
        equal((after.st_ino, after.st_mtime_ns, after.st_size), (st.st_ino, st.st_mtime_ns, LARGE),
              "inode, mtime and size after publication")
        mode.run(["cmp", source, "out"], cwd=directory)
    mode.run(["cmp", source, "out"], cwd=directory)
    equal(os.stat(os.path.join(directory, "out")).st_mtime_ns, st.st_mtime_ns, "lower mtime")


def write_open_publishes(mode, directory):
    source = blob(mode, LARGE)
    path = os.path.join(directory, "out")
    with Host(mode, directory) as host:
        host.tell(f"serve out {source}")
        with open(path, "r+b") as file:
            equal(pending(host), 0, "pending after a write open")
            file.seek(MIB)
            file.write(b"changed")
        with open(path, "rb") as file:
            file.seek(MIB)
            equal(file.read(7), b"changed", "what was written")
        with open(source, "rb") as file:
            file.seek(MIB)
            equal(int.from_bytes(file.read(8), "little"), 1, "the blob")


def write_open_beside_a_reader(mode, directory):
    source = blob(mode, 64 * MIB)
    path = os.path.join(directory, "out")
    for truncate in (False, True):
        with Host(mode, directory) as host:
            if os.path.exists(path):
                os.unlink(path)
            host.tell(f"serve out {source}")
            with open(path, "rb") as reader:
                equal(int.from_bytes(reader.read(8), "little"), 0, "read")
                if truncate:
                    os.truncate(path, 5)
                    equal(os.stat(path).st_size, 5, "truncated")
                with open(path, "ab") as writer:
                    writer.write(b"end")
                equal(os.stat(path).st_size, (5 if truncate else 64 * MIB) + 3, "size")
                with open(path, "rb") as second:
                    second.seek(-3, 2)
                    equal(second.read(), b"end", "a new reader")
                if mode.name == "passthrough":
                    reader.seek(9 * MIB)
                    equal(int.from_bytes(reader.read(8), "little"), 9, "the old reader")
            with open(path, "w") as writer:
                writer.write("new")
            with open(path) as reader:
                equal(reader.read(), "new", "rewritten")


def unlink_and_replace(mode, directory):
    source, other = blob(mode, LARGE), blob(mode, 3 * MIB, "other")
    path = os.path.join(directory, "out")
    with Host(mode, directory) as host:
        host.tell(f"serve out {source}")
        reader = open(path, "rb")
        os.unlink(path)
        assert not os.path.exists(path), "unlinked, but there"
        equal(os.listdir(directory), [], "listing")
        st = os.fstat(reader.fileno())
        equal((st.st_size, st.st_nlink), (LARGE, 0), "fstat of the unlinked file")
        reader.seek(5 * MIB)
        equal(int.from_bytes(reader.read(8), "little"), 5, "reading the unlinked file")
        equal(pending(host), 0, "pending")
        host.tell(f"serve out {other}")
        equal(os.stat(path).st_size, 3 * MIB, "served again")
        reader.close()
        with open(os.path.join(directory, "new"), "w") as file:
            file.write("replacement")
        os.rename(os.path.join(directory, "new"), path)
        with open(path) as file:
            equal(file.read(), "replacement", "renamed over a served file")
        equal(host.ask(f"serve out {other}"), "error File exists", "serving over a file")
        os.unlink(path)
        host.tell(f"serve out {source}")
        host.tell("drop out")
        assert not os.path.exists(path), "dropped, but there"
        host.tell(f"serve out {source}")
        try:
            os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            raise AssertionError("O_EXCL over a served file")
        except FileExistsError:
            pass
        try:
            os.mkdir(path)
            raise AssertionError("mkdir over a served file")
        except FileExistsError:
            pass
    equal(os.stat(path).st_size, LARGE, "published by unmounting")


def rename_and_link(mode, directory):
    source = blob(mode, LARGE)
    with Host(mode, directory) as host:
        def at(name):
            return os.path.join(directory, name)
        os.makedirs(at("a/b"))
        host.tell(f"serve a/b/out {source}")
        try:
            os.rmdir(at("a/b"))
            raise AssertionError("rmdir of a directory with a served file")
        except OSError:
            pass
        os.rename(at("a"), at("c"))
        equal(os.stat(at("c/b/out")).st_size, LARGE, "below a renamed directory")
        os.rename(at("c/b/out"), at("moved"))
        equal(os.stat(at("moved")).st_size, LARGE, "renamed")
        equal(os.listdir(at("c/b")), [], "where it was")
        assert pending(host) == 1, "a rename should not have to wait"
        os.rmdir(at("c/b"))
        with open(at("target"), "w") as file:
            file.write("x")
        os.rename(at("moved"), at("target"))
        equal(sorted(os.listdir(directory)), ["c", "target"], "listing")
        equal(os.stat(at("target")).st_size, LARGE, "renamed over a file")
        os.chmod(at("target"), 0o750)
        os.utime(at("target"), ns=(5, 6))
        st = os.stat(at("target"))
        equal((st.st_mode & 0o7777, st.st_mtime_ns), (0o750, 6), "chmod, utimes")
        os.link(at("target"), at("link"))
        equal(pending(host), 0, "pending after link")
        st = os.stat(at("link"))
        equal((st.st_nlink, st.st_mode & 0o7777, st.st_mtime_ns), (2, 0o750, 6), "linked")
    mode.run(["cmp", source, "link"], cwd=directory)


def crash_leaves_nothing(mode, directory):
    watcher = below(mode, directory, "find . -mindepth 1 | sort; stat -f -c %f .")
    source = blob(mode, LARGE)
    with Host(mode, directory) as host:
        with open(os.path.join(directory, "own"), "w") as file:
            file.write("own")
        host.tell(f"serve out {source}")
        equal(os.stat(os.path.join(directory, "out")).st_size, LARGE, "served")
        equal(pending(host), 1, "pending")
        host.kill()
    equal(finish(watcher).splitlines()[:-1], ["./own"], "after the crash")
    assert not mounted(directory)


def unmount_waits(mode, directory):
    sources = [blob(mode, 200 * MIB, f"u{i}") for i in range(3)]
    with Host(mode, directory) as host:
        for i, source in enumerate(sources):
            host.tell(f"serve out{i} {source}")
        assert pending(host) > 0, "nothing to wait for"
        host.tell("unmount")
    for i, source in enumerate(sources):
        mode.run(["cmp", source, f"out{i}"], cwd=directory)


def readers_while_publishing(mode, directory):
    """Many readers and writers of many served files: whatever they see is whole."""
    sources = [blob(mode, 3 * MIB + i, f"r{i}") for i in range(12)]
    sums = [hashlib.md5(open(source, "rb").read()).hexdigest() for source in sources]
    wrong = []
    with Host(mode, directory) as host:
        def reader(i):
            for _ in range(15):
                with open(os.path.join(directory, f"o{i}"), "rb") as file:
                    if hashlib.md5(file.read()).hexdigest() != sums[i]:
                        wrong.append(i)
        for round_number in range(3):
            for i, source in enumerate(sources):
                path = os.path.join(directory, f"o{i}")
                if round_number:
                    os.unlink(path)
                host.tell(f"serve o{i} {source}")
            threads = [threading.Thread(target=reader, args=(i,)) for i in range(12)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
                assert not thread.is_alive(), "a reader hangs"
        equal(wrong, [], "files read wrong")
        host.tell("publish-all")
        for i, source in enumerate(sources):
            mode.run(["cmp", source, f"o{i}"], cwd=directory)


def blobs_stay_whole(mode, directory):
    """However opens for reading and for writing fall together, no write reaches a blob."""
    source = blob(mode, MIB, "whole")
    os.chmod(source, 0o400)
    path = os.path.join(directory, "f")
    problems = []

    def attempt(open_mode):
        for _ in range(6):
            try:
                with open(path, open_mode) as file:
                    if open_mode == "rb":
                        equal(len(file.read()), MIB, "size read")
                    else:
                        file.write(b"WRITTEN")
            except (OSError, AssertionError) as error:
                problems.append(f"{open_mode}: {error}")

    with Host(mode, directory) as host:
        want = hashlib.md5(open(source, "rb").read()).hexdigest()
        for _ in range(40):
            host.tell(f"serve f {source} 644")
            threads = [threading.Thread(target=attempt, args=(m,))
                       for m in ("rb", "r+b", "rb", "r+b", "rb")]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
                assert not thread.is_alive(), "an open hangs"
            equal(hashlib.md5(open(source, "rb").read()).hexdigest(), want, "the blob")
            with open(path, "rb") as file:
                equal(file.read(7), b"WRITTEN", "what was written")
            os.unlink(path)
    equal(problems, [], "problems")


def a_full_disk_publishes_later(mode, directory):
    if os.geteuid() != 0:
        return  # needs a small file system of its own
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", directory], check=True)
    try:
        small = os.path.join(directory, "small")
        os.mkdir(small)
        with open(os.path.join(directory, "ballast"), "wb") as file:
            file.write(b"b" * (6 * MIB))
        source = blob(mode, 4 * MIB, "full")
        with Host(mode, small) as host:
            host.tell(f"serve out {source}")
            with open(os.path.join(small, "out"), "rb") as file:
                file.seek(3 * MIB)
                equal(int.from_bytes(file.read(8), "little"), 3, "read")
            equal(host.ask("publish out"), "error No space left on device", "publish")
            assert "No space left" in host.ask("unmount"), "unmount without room"
            try:
                open(os.path.join(small, "out"), "ab").close()
                raise AssertionError("a write open without room")
            except OSError as error:
                equal(error.errno, 28, "errno")
            equal(os.stat(os.path.join(small, "out")).st_size, 4 * MIB, "still served")
            os.unlink(os.path.join(directory, "ballast"))
            host.tell("publish out")
            host.tell("unmount")
        mode.run(["cmp", source, "out"], cwd=small)
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


def runs_as_a_program(mode, directory):
    with Host(mode, directory) as host:
        path = os.path.join(mode.work, "true-copy")
        if not os.path.exists(path):
            with open(path, "wb") as file, open("/bin/true", "rb") as program:
                file.write(program.read() + b"\0" * (200 * MIB))
        os.chmod(path, 0o755)
        host.tell(f"serve prog {path}")
        mode.run(["./prog"], cwd=directory)
        host.tell("publish prog")
        mode.run(["./prog"], cwd=directory)


run_tests(Mode(), [read_while_pending, write_open_publishes, write_open_beside_a_reader,
                   unlink_and_replace, rename_and_link, crash_leaves_nothing, unmount_waits,
                   readers_while_publishing, blobs_stay_whole, a_full_disk_publishes_later,
                   runs_as_a_program])
