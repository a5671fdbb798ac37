"""posix_check prints the same in a mount as in a bare directory."""
import os

from harness import Host, Mode, run_tests

# What cannot be the same, and why (docs/limits.md).
KNOWN = {
    # Setuid bits are cleared for root's writes too: the kernel keeps one set of credentials for all
    # that have a passthrough file open.
    "passthrough": {"create.m4755 stat", "create.m2755 stat",
                    # The kernel's backing file keeps the flags of the open.
                    "append.flag cleared", "append.flag set later"},
    "ordinary": {"create.m4755 stat", "create.m2755 stat"},
    "user": set(),
}


def lines(text):
    return dict(line.split(" = ", 1) for line in text.splitlines() if " = " in line)


def compare(mode, directory, cache):
    program = os.path.join(mode.bin, "posix_check")
    bare, mount = os.path.join(directory, "bare"), os.path.join(directory, "mount")
    mode.run(["mkdir", bare, mount])
    want = lines(mode.run([program, bare]))
    with Host(mode, mount, cache=cache):
        got = lines(mode.run([program, mount]))
    wrong = [f"{key}: got {got.get(key)}, want {want.get(key)}"
             for key in sorted(set(want) | set(got))
             if want.get(key) != got.get(key) and key not in KNOWN[mode.name]]
    assert len(want) > 300, f"only {len(want)} checks ran"
    assert not wrong, "\n  ".join(["differs from a bare directory:"] + wrong)


def same_as_bare_with_long_caches(mode, directory):
    compare(mode, directory, 3600)


def same_as_bare_without_caches(mode, directory):
    compare(mode, directory, 0)


run_tests(Mode(), [same_as_bare_with_long_caches, same_as_bare_without_caches])
