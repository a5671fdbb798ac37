#!/usr/bin/env python3
"""run.py DIR list | DIR NAME --programs BUILD_DIR [--as root|user] [--mounted|--seized] [--data DIR] [--size N] [--keep]

Runs one scenario of DIR. Exit status 0, 1, or 77 where the machine lacks what it needs. As root with
--as user it runs as an ordinary user (1000) with an own HOME and no capability.
"""
import argparse
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
from harness import process, registry, world  # noqa: E402

SKIPPED = 77
USER = 1000


def skip(reason):
    print(f"SKIPPED: {reason}")
    return SKIPPED


def check_machine(user):
    """What no scenario can do without, or None."""
    if not os.path.exists("/dev/fuse"):
        return "there is no /dev/fuse"
    if os.getuid() == 0:
        os.chmod("/dev/fuse", 0o666)
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse cannot be opened by this user (chmod 0666 /dev/fuse, as root)"
    if user == "root" and os.getuid() != 0:
        return "this one runs as root"
    if user == "user" and not shutil.which("fusermount3"):
        return "there is no fusermount3"
    if os.getuid() == 0 and user == "user" and not shutil.which("setpriv"):
        return "there is no setpriv"
    return None


def readable_by_all(path):
    path = os.path.realpath(path)
    while True:
        if os.stat(path).st_mode & 0o005 != 0o005:
            return False
        if path == "/":
            return True
        path = os.path.dirname(path)


def as_user(arguments):
    """The same in an ordinary user's hands; what lies where they cannot read is copied."""
    with tempfile.TemporaryDirectory(prefix="pcache-e2e-user-", dir="/tmp") as place:
        os.chmod(place, 0o755)
        home = os.path.join(place, "home")
        os.mkdir(home)
        os.chown(home, USER, USER)
        here = os.path.dirname(os.path.abspath(__file__))
        where = {"here": here, "dir": os.path.abspath(arguments.dir),
                 "programs": os.path.abspath(arguments.programs)}
        if arguments.data and os.path.isdir(arguments.data) and not readable_by_all(arguments.data):
            arguments.data = shutil.copytree(arguments.data, os.path.join(place, "data"))
        if not all(readable_by_all(p) for p in where.values()) or \
                not readable_by_all(os.path.join(where["programs"], "pcached")):
            for name in ("here", "dir"):
                where[name] = shutil.copytree(where[name], os.path.join(place, name))
            os.mkdir(os.path.join(place, "bin"), 0o755)
            for program in ("pcache", "pcached"):
                shutil.copy(os.path.join(where["programs"], program), os.path.join(place, "bin"))
            helpers = os.path.join(where["programs"], "e2e")
            if os.path.isdir(helpers):
                shutil.copytree(helpers, os.path.join(place, "bin", "e2e"))
            where["programs"] = os.path.join(place, "bin")
        command = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "env", "-i",
                   f"HOME={home}", f"PATH={world.PATH}", "LC_ALL=C.UTF-8", sys.executable,
                   os.path.join(where["here"], "run.py"), where["dir"], arguments.name,
                   "--programs", where["programs"], "--as", "user"]
        command += ["--data", arguments.data] if arguments.data else []
        command += ["--mounted"] if arguments.mounted else []
        command += ["--size", arguments.size] if arguments.size else []
        command += ["--keep"] if arguments.keep else []
        return subprocess.run(command, cwd="/", check=False).returncode


def perform(scenario, arguments):
    os.umask(0o022)
    t = world.World(os.path.abspath(arguments.programs), arguments.mounted, arguments.data, arguments.size,
                    arguments.seized)
    try:
        scenario.run(t)
        t.finish()
    except registry.Skip as reason:
        return skip(reason)
    except process.TimedOut as error:
        t.check(False, f"timed out: {error}")
    except Exception as error:  # pylint: disable=broad-except
        t.check(False, world.describe(error))
    finally:
        if t.failures:
            print(f"daemon.log:\n{t.log()}")
        if arguments.keep:
            print(f"kept: {t.dir}")
        else:
            t.remove()
    print(f"{scenario.name}: {len(t.failures)} failures")
    return 1 if t.failures else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("dir")
    parser.add_argument("name")
    parser.add_argument("--programs")
    parser.add_argument("--data")
    parser.add_argument("--as", dest="user", default="root" if os.getuid() == 0 else "user")
    parser.add_argument("--mounted", action="store_true")
    parser.add_argument("--seized", action="store_true", help="commands are started in a mount, without `pcache run`")
    parser.add_argument("--size", help="of workflows: full, or a number of jobs")
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    scenarios = registry.load(arguments.dir)
    if arguments.name == "list":
        for s in scenarios.values():
            for user in s.users:
                print(f"{s.name} {user} {s.timeout}" + (" by_hand" if s.by_hand else ""))
        return 0
    if reason := check_machine(arguments.user):
        return skip(reason)
    if arguments.user == "user" and os.getuid() == 0:
        return as_user(arguments)
    return perform(scenarios[arguments.name], arguments)


if __name__ == "__main__":
    sys.exit(main())
