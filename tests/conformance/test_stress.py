"""Parallel work with notifications going on: nothing may wait for ever, nothing may be wrong."""
import os
import subprocess
import time

from harness import Host, Mode, equal, run_tests

LOOP = r"""
import os, sys, time
me, seconds = sys.argv[1], float(sys.argv[2])
end = time.monotonic() + seconds
n = 0
while time.monotonic() < end:
    name = f"shared/{me}.{n % 7}"
    with open(name, "w") as f:
        f.write(me * 10)
    assert os.stat(name).st_size == 10 * len(me), name
    with open(name) as f:
        assert f.read() == me * 10, name
    os.rename(name, name + ".r")
    try:
        os.stat(f"shared/{(int(me) + 1) % 32}.{n % 7}")
    except FileNotFoundError:
        pass
    os.mkdir(f"shared/d{me}")
    os.listdir("shared")
    os.symlink("x", f"shared/d{me}/l")
    os.unlink(f"shared/d{me}/l")
    os.rmdir(f"shared/d{me}")
    os.unlink(name + ".r")
    n += 1
print(n)
"""


def parallel_loops(mode, directory):
    with Host(mode, directory) as host:
        os.mkdir(os.path.join(directory, "shared"))
        loops = [mode.start(["python3", "-c", LOOP, str(i), "6"], cwd=directory,
                            stdout=subprocess.PIPE, text=True) for i in range(32)]
        deadline = time.monotonic() + 6
        n = 0
        while time.monotonic() < deadline:
            for i in range(0, 32, 5):
                host.tell(f"invalidate shared/{i}.{n % 7}", 20)
                host.tell(f"invalidate shared/d{i}", 20)
            host.tell("invalidate shared", 20)
            if n % 10 == 0:
                host.tell("invalidate-all", 20)
            n += 1
        done = 0
        for loop in loops:
            out = loop.communicate(timeout=60)[0]
            equal(loop.returncode, 0, "a loop's exit status")
            done += int(out)
        equal(os.listdir(os.path.join(directory, "shared")), [], "left over")
        print(f"        {done} rounds in 32 loops, {n} rounds of notifications, "
              f"{host.status()['requests']} requests")
        assert done > 32, "hardly anything happened"


def few_descriptors(mode, directory):
    """A tree with more files than the daemon may have descriptors."""
    argv = ["python3", "-c",
            "import os\n"
            "for d in range(20):\n"
            "    os.mkdir(f'd{d}')\n"
            "    for i in range(60): open(f'd{d}/f{i}', 'w').write(f'{d} {i}')\n"
            "for _ in range(2):\n"
            "    for d in range(20):\n"
            "        for i in range(60):\n"
            "            assert os.stat(f'd{d}/f{i}').st_size == len(f'{d} {i}')\n"
            "            assert open(f'd{d}/f{i}').read() == f'{d} {i}'\n"
            "held = [open(f'd1/f{i}') for i in range(10)]\n"
            "for i in range(10): os.rename(f'd1/f{i}', f'd2/g{i}'); os.unlink(f'd2/g{i}')\n"
            "for i, f in enumerate(held): assert f.read() == f'1 {i}' and os.fstat(f.fileno()).st_nlink == 0\n"
            "os.rename('d3', 'e3')\n"
            "assert open('e3/f7').read() == '3 7'\n"]
    for limit in (400, 180):
        with Host(mode, directory, wrap=["prlimit", f"--nofile={limit}:{limit}"]) as host:
            mode.run(argv, cwd=directory, timeout=100)
            mode.run(["bash", "-c", "rm -rf d* e*; ls"], cwd=directory)
            equal(host.status()["alive"], "1", "alive")


def death_of_a_client(mode, directory):
    """Clients killed in the middle of requests leave no handle behind."""
    with Host(mode, directory) as host:
        for _ in range(20):
            clients = [mode.start(["bash", "-c", "while :; do echo x > $0.$$; cat $0.* > /dev/null; "
                                   "rm -f $0.$$; done", f"f{i}"], cwd=directory,
                                  stderr=subprocess.DEVNULL) for i in range(4)]
            time.sleep(0.1)
            for client in clients:
                client.kill()
                client.wait()
        for _ in range(50):
            if host.status()["writers"] == "0":
                break
            time.sleep(0.1)
        equal(host.status()["writers"], "0", "write handles")


run_tests(Mode(), [parallel_loops, few_descriptors, death_of_a_client])
